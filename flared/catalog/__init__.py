"""Which keys and records exist in the metadata, and which changes keep them true.

What changes something is a plain function of a ``Transaction``, for use inside ``kv.transact``; readers are
``async`` functions of a ``KV``. Times are wall-clock milliseconds, handed in. It never talks to a node, never
waits and never draws a random number.

**The rule of references: a name is written only in the transaction that counts it.** A manifest that names
a chunk or an extent, an extent that names a chunk, a part of an upload and a sealed parent that name an extent, each
hold one reference to it. Sealing a parent passes the references of parts on, and counts nothing anew. ``create_chunk``,
``create_shared_chunk``, ``seal`` and the functions ``add_reference(s)`` count; ``put_version`` and ``append_chunk``
write the name and rely on the count; ``put_version``, ``delete_object``, ``delete_version`` and the sweep's functions
release.
What has no reference left has exactly one ``garbage`` item, until it is referenced again or gone.

Begin with ``objects``. The sweep's steps, in order: ``extents.list_open_extents`` and ``give_up``;
``garbage.list_due``; then by kind ``uploads.release_parts``, ``parents.release_parent_page``,
``extents.release_extent_page``, ``chunks.condemn_chunk``, ``garbage.mark_deleted``.
"""
