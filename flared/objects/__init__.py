"""The verbs: put, get, delete, list, copy, and what buckets do. One verb a file.

They know names, manifests, chunks and the metadata; they know nothing of HTTP, S3 or XML. A face parses a request,
calls one verb and answers. Open ``put.py`` and ``get.py`` first.
"""
