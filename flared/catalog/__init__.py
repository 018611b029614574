"""Which keys and records exist in the metadata, and which changes keep them true.

What changes something is a plain function of a ``Transaction``, for use inside ``kv.transact``; readers are
``async`` functions of a ``KV``. Times are wall-clock milliseconds, handed in. It never talks to a node, never
waits and never draws a random number.

**The rule of references: a name is written only in the transaction that counts it.** A manifest that names
a chunk or an extent, and an extent that names a chunk, each hold one reference to it. ``create_chunk``,
``create_shared_chunk``, ``seal`` and the functions ``add_reference(s)`` count; ``put_version`` and ``append_chunk``
write the name and rely on the count; ``put_version``, ``delete_version`` and the sweep's functions release.
What has no reference left has exactly one ``garbage`` item, until it is referenced again or gone.

Begin with ``objects``. The sweep's steps, in order: ``extents.list_open_extents`` and ``give_up``;
``garbage.list_due``; then by kind ``extents.release_extent_page``, ``chunks.condemn_chunk``, ``garbage.mark_deleted``.
"""
