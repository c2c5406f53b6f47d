"""The versions that the examiner holds."""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from threading import Lock
from typing import NamedTuple

from reference_db.cell_version import CellVersion
from reference_db.contents import Contents
from reference_db.errors import ReferenceDatabaseError
from reference_db.manifest import Manifest
from reference_db.segment import Segment
from reference_db.stores.store import Store

_MOST, _FEWEST = 4, 2  # versions held; the fewest even if they take more than the budget
_HELD_S = 300.0  # a version may hold fingerprints that an operator had forgotten


class SegmentsMissing(Exception):
    """Neither the store nor a version that is held has these segments."""

    def __init__(self, digests: tuple[str, ...]) -> None:
        super().__init__(digests)
        self.digests = digests


class _Held(NamedTuple):
    version: CellVersion
    used: float


class ExaminedVersions:
    """The versions used last, so that the next version of a cell reuses their segments and indices.

    For any thread. `open_store` is called at the first segment that must be read. `budget` in bytes of memory. `clock`
    returns seconds.
    """

    def __init__(
        self, open_store: Callable[[], Store], budget: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._open_store = open_store
        self._store: Store | None = None
        self._budget = budget
        self._clock = clock
        self._held: OrderedDict[str, _Held] = OrderedDict()  # by digest, least recently used first
        self._lock = Lock()
        self._assembling: dict[str, Lock] = {}  # by cell

    def find(self, manifest: Manifest, handed: Mapping[str, Segment]) -> CellVersion:
        """The version of a manifest, with its indices. `handed`: segments by digest that the store may not have yet.

        Raises `SegmentsMissing`, `CorruptManifest` or `TooFewFingerprints`.
        """
        cell_id = manifest.cell.cell_id
        with self._assembling.setdefault(cell_id, Lock()):
            relatives = self._use(manifest)
            if relatives and relatives[0].manifest.digest == manifest.digest:
                return relatives[0]
            segments = self._collect(manifest, relatives, handed)
            version = CellVersion.assemble(Contents.of(manifest, segments), relatives[0] if relatives else None)
            with self._lock:
                self._held[manifest.digest] = _Held(version, self._clock())
                self._evict()
            return version

    def _use(self, manifest: Manifest) -> list[CellVersion]:
        """The versions held of a manifest's cell, first its own, then those used last. Drops those unused for long."""
        now = self._clock()
        with self._lock:
            if (own := self._held.pop(manifest.digest, None)) is not None:
                self._held[manifest.digest] = _Held(own.version, now)
            for digest in [digest for digest, held in self._held.items() if now - held.used > _HELD_S]:
                del self._held[digest]
            versions = [held.version for held in reversed(self._held.values())]
        return [one for one in versions if one.cell.cell_id == manifest.cell.cell_id]

    def _collect(
        self, manifest: Manifest, relatives: list[CellVersion], handed: Mapping[str, Segment]
    ) -> list[Segment]:
        known = dict(handed)
        for one in relatives:
            pairs = zip(one.manifest.segments, one.contents.segments, strict=True)
            known |= {reference.digest: segment for reference, segment in pairs}
        digests = [reference.digest for reference in manifest.segments]
        found = {digest: known.get(digest) or self._read(manifest.cell.cell_id, digest) for digest in digests}
        if missing := tuple(digest for digest, segment in found.items() if segment is None):
            raise SegmentsMissing(missing)
        return [segment for digest in digests if (segment := found[digest]) is not None]

    def _read(self, cell_id: str, digest: str) -> Segment | None:
        """A segment of the store. None where the store cannot give it: the service holds it anyway."""
        try:
            if self._store is None:
                self._store = self._open_store()
            return Segment.from_buffer(self._store.get_segment(cell_id, digest), digest)
        except ReferenceDatabaseError:
            return None

    def _evict(self) -> None:
        taken = sum(held.version.resident_bytes for held in self._held.values())
        while len(self._held) > _MOST or (taken > self._budget and len(self._held) > _FEWEST):
            _, evicted = self._held.popitem(last=False)
            taken -= evicted.version.resident_bytes
