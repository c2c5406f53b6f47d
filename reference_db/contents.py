"""The contents of one version of a cell: read from the store, not indexed yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from reference_db.errors import CorruptManifest, MissingSegment, UnknownVersion
from reference_db.fingerprints import Fingerprints
from reference_db.manifest import Manifest
from reference_db.segment import Segment, join_segments
from reference_db.stores.store import Store

_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Contents:
    """A manifest and its segments. `kept` marks the rows without tombstones, bool `[n]` per segment; None means all."""

    manifest: Manifest
    segments: tuple[Segment, ...]
    kept: tuple[NDArray[np.bool_] | None, ...]

    @classmethod
    def of(cls, manifest: Manifest, segments: Sequence[Segment]) -> Self:
        """Raises `CorruptManifest` if the manifest does not describe these segments in this order."""
        shape = (manifest.cell.antennas, manifest.cell.subcarriers, 2)
        if len(segments) != len(manifest.segments) or manifest.indexed > len(segments):
            raise CorruptManifest(
                f"manifest {manifest.digest} lists {len(manifest.segments)} segments and indexes {manifest.indexed}, "
                f"but there are {len(segments)}"
            )
        for reference, segment in zip(manifest.segments, segments, strict=True):
            expected = (reference.count, *shape)
            if segment.csi.shape != expected:
                raise CorruptManifest(
                    f"segment {reference.digest} has CSI of shape {list(segment.csi.shape)}, "
                    f"but manifest {manifest.digest} expects {list(expected)}"
                )
        tombstones = np.array(manifest.tombstones, np.uint64)
        contents = cls(manifest, tuple(segments), tuple(_kept(segment, tombstones) for segment in segments))
        if len(contents) != manifest.fingerprints:
            raise CorruptManifest(
                f"manifest {manifest.digest} counts {manifest.fingerprints} fingerprints, but there are {len(contents)}"
            )
        return contents

    @cached_property
    def ids(self) -> NDArray[np.uint64]:
        """uint64 `[n]`. All arrays follow the order of the segments."""
        return self._rows([segment.ids for segment in self.segments], np.zeros(0, np.uint64))

    @cached_property
    def positions(self) -> NDArray[np.float32]:
        """float32 `[n, 2]`, metres."""
        return self._rows([segment.positions for segment in self.segments], np.zeros((0, 2), np.float32))

    @cached_property
    def times(self) -> NDArray[np.float64]:
        """float64 `[n]`, Unix seconds; 0 if unknown."""
        return self._rows([segment.times for segment in self.segments], np.zeros(0, np.float64))

    @cached_property
    def sigmas(self) -> NDArray[np.float32]:
        """float32 `[n]`, metres."""
        return self._rows([segment.sigmas for segment in self.segments], np.zeros(0, np.float32))

    def fingerprints(self) -> Fingerprints:
        """All fingerprints as they were measured. Raises `ValueError` if there is none."""
        pairs = zip(self.segments, self.kept, strict=True)
        left = [segment if kept is None else segment.rows(kept) for segment, kept in pairs]
        return join_segments([segment for segment in left if len(segment)]).fingerprints()

    def sample(self, most: int) -> Fingerprints:
        """At most so many random fingerprints, always the same ones. Raises `ValueError` if there is none."""
        if len(self) <= most:
            return self.fingerprints()
        drawn = np.zeros(len(self), bool)
        drawn[np.random.default_rng(0).choice(len(self), most, replace=False)] = True
        kept: list[NDArray[np.bool_]] = []
        for segment, rows in zip(self.segments, self.kept, strict=True):
            some = np.ones(len(segment), bool) if rows is None else rows.copy()
            count = int(some.sum())
            some[some], drawn = drawn[:count], drawn[count:]
            kept.append(some)
        return Contents(self.manifest, self.segments, tuple(kept)).fingerprints()

    def with_deleted(self) -> "Contents":
        """The same segments with their deleted fingerprints, which are stored until a version is compacted."""
        return Contents(self.manifest, self.segments, (None,) * len(self.segments))

    def __len__(self) -> int:
        pairs = zip(self.segments, self.kept, strict=True)
        return sum(len(segment) if kept is None else int(kept.sum()) for segment, kept in pairs)

    def _rows(self, arrays: Sequence[NDArray[_Scalar]], none: NDArray[_Scalar]) -> NDArray[_Scalar]:
        pairs = zip(arrays, self.kept, strict=True)
        rows = np.concatenate([none, *(array if kept is None else array[kept] for array, kept in pairs)])
        rows.flags.writeable = False
        return rows


def read_contents(store: Store, manifest: Manifest, held: Contents | None = None) -> Contents:
    """Reads the segments of a version from the store, except those that `held` has already.

    Raises `UnknownVersion` if the version was removed, `MissingSegment`, `CorruptSegment`, `CorruptManifest` or
    `StoreUnavailable`.
    """
    known = {} if held is None else dict(zip(held.manifest.segments, held.segments, strict=True))
    cell_id = manifest.cell.cell_id
    try:
        segments = [
            known.get(reference) or Segment.from_buffer(store.get_segment(cell_id, reference.digest), reference.digest)
            for reference in manifest.segments
        ]
    except MissingSegment as error:
        if manifest.number not in store.numbers(cell_id):
            raise UnknownVersion(cell_id, manifest.number) from error
        raise
    return Contents.of(manifest, segments)


def _kept(segment: Segment, tombstones: NDArray[np.uint64]) -> NDArray[np.bool_] | None:
    kept = ~np.isin(segment.ids, tombstones)
    return None if kept.all() else kept
