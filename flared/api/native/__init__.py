"""The native face: objects and buckets over HTTP, as docs/http-api.md has them. Open ``routes.py`` first."""
