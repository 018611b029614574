"""The S3 face: what S3's clients speak, as docs/s3.md has it, over the same verbs as the native face.

Open ``operations.py`` first: it names every operation of S3, and which of them are here. Each file beside it holds a
few operations that belong together; ``face.py`` binds them. It never decides what the native face would need, too.
"""
