"""Real clients of S3 against a running cluster, over http and https.

``tools`` finds or installs each program, ``checks`` says what each must do, ``test_clients`` runs the quick ones with
the other tests, and ``python -m tests.s3.clients`` runs all and prints the table of ``docs/s3.md``.
"""
