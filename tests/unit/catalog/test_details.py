"""Details: in every kind of row, through every change of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.catalog import manifest as manifests
from flared.catalog import packed
from flared.catalog.chunks import ChunkRecord
from flared.catalog.details import EMPTY, Details, decode, encode, some
from flared.catalog.manifest import Manifest
from flared.errors import ManifestCorrupt
from flared.meta.memory import MemoryKV
from tests.unit.catalog.support import LittleStore, draft, object_name
from tests.unit.catalog.test_packed import LATER, RECORDS, USER, manifest_of

TEXTS = st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3)
DETAILS = st.builds(
    Details,
    TEXTS,
    TEXTS,
    st.booleans(),
    TEXTS,
    st.booleans(),
    st.booleans(),
    st.integers(0, 1 << 45),
    st.booleans(),
)


@given(DETAILS)
def test_what_was_encoded_is_what_is_decoded(details: Details) -> None:
    assert decode(json.loads(encode(details))) == details
    assert some(details) in (details, None)
    assert (some(details) is None) == (details == EMPTY)


@given(RECORDS, USER, DETAILS.map(some))
def test_a_packed_row_keeps_them_whatever_else_changes(
    record: ChunkRecord, user: dict[str, str], details: Details | None
) -> None:
    manifest = manifest_of(record, user)._replace(details=details)
    value = manifests.encode(manifest, 7) + LATER
    assert manifests.decode(manifest.name, value) == manifest
    assert manifests.decode(manifest.name, packed.placed(value, (None,), (0,))).details == details
    assert manifests.decode(manifest.name, packed.alone(value)).details == details


@given(DETAILS.map(some))
def test_a_row_of_json_has_them(details: Details | None) -> None:
    manifest = draft(object_name("a"), 5)._replace(details=details)
    assert manifests.decode(manifest.name, manifests.encode(manifest, 0)) == manifest


@pytest.mark.parametrize("broken", [b"3", b"[]", b'"x"', b"{"])
def test_what_is_not_details_is_an_error(broken: bytes) -> None:
    manifest = draft(object_name("a"))
    with pytest.raises(ManifestCorrupt):
        manifests.decode(manifest.name, manifests.encode(manifest, 0)[:-1] + b',"d":' + broken + b"}")


@given(RECORDS, USER, DETAILS.map(some), DETAILS.map(some))
def test_other_details_change_nothing_else(
    record: ChunkRecord, user: dict[str, str], before: Details | None, after: Details | None
) -> None:
    for manifest in (manifest_of(record, user), draft(object_name("a"), 5)._replace(version=7)):
        value = manifests.encode(manifest._replace(details=before), 7)
        later = LATER if manifest.packed else b""
        changed = manifests.redescribed(value + later, manifest._replace(details=before), after)
        assert later in changed
        assert manifests.decode(manifest.name, changed) == manifest._replace(details=after)


async def test_garbage_keeps_nothing_of_them() -> None:
    store = LittleStore(MemoryKV())
    await store.open()
    name = object_name("a")
    before = await store.put_small(name, b"x")
    assert before.packed is not None
    row = manifests.encode(before._replace(details=Details(tags={"secret": "tag"})), before.version)
    await store.kv.commit({}, {b"object/bucket/a": row})
    assert await store.delete(name)
    ((_, item),) = await store.kv.scan(b"garbage/", b"garbage0", 9)
    assert packed.is_packed(item)
    assert b"secret" not in item


def test_every_field_goes_with_a_version() -> None:
    every = Manifest(object_name("a"), 1, 2, "e", 3.0, "t", {"u": "v"}, None, (), None, Details(tags={"a": "b"}))
    assert every.with_version(9) == every._replace(version=9)
