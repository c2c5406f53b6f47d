"""The plan of a new version of a cell: its segments, its tombstones, and when they are compacted.

Every append adds a segment and every deletion adds tombstones. To keep loading, searching and storing cheap, some
versions compact what earlier updates left behind: they rebuild the indices over all fingerprints, join small segments,
and rewrite segments without their deleted fingerprints.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from reference_db.contents import Contents
from reference_db.manifest import SegmentReference
from reference_db.segment import MOST_BYTES, Segment, join_segments

_FEW_INDEXED, _MOST_APPENDED = 512, 100_000
_MOST_SEGMENTS = 32
_FEWEST_DEAD, _DEAD_SHARE = 1024, 1 / 8

_Ids = NDArray[np.uint64]


@dataclass
class VersionPlan:
    """The segments and tombstones of a new version. The indices are built from the first `indexed` segments.

    `references` holds the references of segments that the store already has, by `id()` of the segment.
    """

    segments: list[Segment]
    tombstones: _Ids
    indexed: int
    references: dict[int, SegmentReference] = field(default_factory=dict)

    @classmethod
    def continuing(cls, before: Contents) -> Self:
        """A plan that keeps everything as it is in the version `before`."""
        manifest, segments = before.manifest, list(before.segments)
        stored = {id(segment): reference for segment, reference in zip(segments, manifest.segments, strict=True)}
        return cls(segments, np.array(manifest.tombstones, np.uint64), manifest.indexed, stored)

    def alive(self) -> list[NDArray[np.bool_]]:
        """Which rows of each segment have no tombstone: bool `[n]` per segment."""
        return [~np.isin(segment.ids, self.tombstones) for segment in self.segments]

    def bury(self, ids: _Ids) -> None:
        """Adds tombstones for fingerprints, uint64 `[k]`."""
        if len(ids):
            self.tombstones = np.union1d(self.tombstones, ids)
            self._reindex_if_indexed(ids)

    def revive(self, ids: _Ids) -> None:
        """Removes the tombstones of fingerprints, uint64 `[k]`, that have one."""
        revived = np.intersect1d(self.tombstones, ids)
        if len(revived):
            self.tombstones = np.setdiff1d(self.tombstones, revived)
            self._reindex_if_indexed(revived)

    def erase(self, ids: _Ids) -> None:
        """Removes fingerprints, uint64 `[k]`, from their segments, whether they have a tombstone or not."""
        self._reindex_if_indexed(np.setdiff1d(ids, self.tombstones))
        left: list[Segment] = []
        indexed = 0
        for number, segment in enumerate(self.segments):
            erased = np.isin(segment.ids, ids)
            if erased.all():
                continue
            left.append(segment.rows(~erased) if erased.any() else segment)
            indexed += number < self.indexed
        self.segments, self.indexed = left, indexed
        self.tombstones = np.setdiff1d(self.tombstones, ids)

    def compact(self) -> None:
        """Rebuilds indices, joins segments and drops deleted fingerprints where one of these is due."""
        alive = self.alive()
        left, held = [int(rows.sum()) for rows in alive], sum(map(len, alive))
        indexed = sum(left[: self.indexed])
        if not indexed or needs_reindexing(indexed, sum(left) - indexed):
            self.indexed = len(self.segments)
        rewrite = held - sum(left) > max(_FEWEST_DEAD, _DEAD_SHARE * held)
        base, tail = (
            _join_if_many(_without_dead(self.segments[some], alive[some], rewrite))
            for some in (slice(None, self.indexed), slice(self.indexed, None))
        )
        self.segments, self.indexed = base + tail, len(base)
        ids = np.concatenate([np.zeros(0, np.uint64), *(segment.ids for segment in self.segments)])
        self.tombstones = np.intersect1d(self.tombstones, ids)

    def _reindex_if_indexed(self, ids: _Ids) -> None:
        """Has all segments indexed if `ids` are in the indices, which must be rebuilt then in any case."""
        if any(np.isin(segment.ids, ids).any() for segment in self.segments[: self.indexed]):
            self.indexed = len(self.segments)


def needs_reindexing(indexed: int, appended: int) -> bool:
    """Whether to rebuild indices that hold `indexed` fingerprints and have been extended by `appended` more.

    Measured with 16 antennas and 16 subcarriers, in seconds on one core:

    | indexed | rebuild | extend by 1,000, largest tail | one time in five |
    | ---: | ---: | ---: | ---: |
    | 500 | 0.06 | - | - |
    | 10,000 | 0.7 | 0.020 | - |
    | 100,000 | 2.8 | 0.018 | 0.030 |
    | 1,000,000 | 41 | 0.023 | 0.13 |

    Indices of few fingerprints are rebuilt at every append: that is cheap, and a small beginning says little about the
    later cell. Larger indices are extended until the tail is a quarter of them. A growing cell then indexes each
    fingerprint five times in all, and first guesses are as good as after a rebuild. With a tail twice that large,
    first guesses near a coarse position are 10 % worse, because the k-NN bandwidth is too long by then. A tail hardly
    slows searches: one by position takes 0.09 ms instead of 0.04, a first guess 0.23 ms instead of 0.17. Tails longer
    than `_MOST_APPENDED` are expensive to build and to copy.
    """
    return appended > (0 if indexed < _FEW_INDEXED else min(indexed // 4, _MOST_APPENDED))


def _without_dead(segments: Sequence[Segment], alive: Sequence[NDArray[np.bool_]], rewrite: bool) -> list[Segment]:
    """The segments without the wholly deleted ones; with `rewrite`, without any deleted fingerprint."""
    return [
        segment.rows(rows) if rewrite and not rows.all() else segment
        for segment, rows in zip(segments, alive, strict=True)
        if rows.any()
    ]


def _join_if_many(segments: list[Segment]) -> list[Segment]:
    """Joins the segments if there are more than `_MOST_SEGMENTS`: each costs a file or a key, and a step per gather.

    The result has the same fingerprints in as few segments as `MOST_BYTES` allows.
    """
    if len(segments) <= _MOST_SEGMENTS:
        return segments
    runs: list[list[Segment]] = []
    for segment in segments:
        if runs and _csi_bytes([*runs[-1], segment]) <= MOST_BYTES:
            runs[-1].append(segment)
        else:
            runs.append([segment])
    return [run[0] if len(run) == 1 else join_segments(run) for run in runs]


def _csi_bytes(segments: Sequence[Segment]) -> int:
    return sum(segment.csi.nbytes for segment in segments)
