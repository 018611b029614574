"""Old versions: which of those that a listing shows the lifecycle rules of a bucket let go. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from flared.objects.lifecycle import find_marker_rule, find_noncurrent_expiry
from flared.objects.tags import tags_of

if TYPE_CHECKING:
    from flared.catalog.manifest import Manifest
    from flared.catalog.version_listing import Listed
    from flared.objects.lifecycle import Rule


class Due(NamedTuple):
    manifest: Manifest
    rule: str


@dataclass(slots=True)
class VersionWalk:
    """Goes over all versions in the order of the listing, of each key the newest first, from page to page."""

    rules: tuple[Rule, ...]
    _key: str = ""
    _newer_ms: int = 0
    """When the version before was written: that was when the next one became noncurrent."""
    _noncurrent: int = 0
    """Of the key, so far."""
    _marker: Manifest | None = None
    """A delete marker that is the newest version, while none below it has been met."""

    def visit(self, listed: Listed, now_ms: int) -> list[Due]:
        """Return what is due by now, which may be what came before."""
        manifest, newest = listed
        due = [] if manifest.name.key == self._key else self.end(now_ms)
        if manifest.name.key != self._key:
            self._key, self._noncurrent = manifest.name.key, 0
        written_ms = int(manifest.modified * 1000)
        if newest:
            self._marker = manifest if manifest.deletes else None
        else:
            self._marker = None
            expiry = find_noncurrent_expiry(
                self.rules, self._key, manifest.size, tags_of(manifest), self._newer_ms, self._noncurrent
            )
            # Of a row that is damaged nothing is known, and so not that it is due.
            if manifest.is_readable and expiry is not None and expiry.due_ms <= now_ms:
                due.append(Due(manifest, expiry.rule))
            self._noncurrent += 1
        self._newer_ms = written_ms if manifest.is_readable else now_ms
        return due

    def end(self, now_ms: int) -> list[Due]:
        """Return the delete marker that nothing came behind, if it is due."""
        marker, self._marker = self._marker, None
        if marker is None:
            return []
        rule = find_marker_rule(self.rules, marker.name.key, int(marker.modified * 1000), now_ms)
        return [] if rule is None else [Due(marker, rule)]
