"""One version of a cell, indexed in memory and ready to serve."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from reference_db.cell import Cell
from reference_db.contents import Contents
from reference_db.degraded_csi import Degradation, DegradedCsi
from reference_db.errors import TooFewFingerprints
from reference_db.geodesy import LocalFrame
from reference_db.half_csi import CsiPart, PackedCsi
from reference_db.index.position import PositionIndex
from reference_db.index.signal import SignalIndex
from reference_db.index.signal_features import Snapshots
from reference_db.manifest import Manifest
from reference_db.references import References
from reference_db.segment import Segment


class Extent(NamedTuple):
    """The smallest east-north rectangle that contains all positions of a cell, in metres."""

    west: float
    south: float
    east: float
    north: float


@dataclass(frozen=True, eq=False)
class CellVersion:
    """An immutable version of a cell. Updates make new versions and never change this one; its arrays are read-only.

    Row i of every array is fingerprint i of the indices: `ids` uint64 `[n]`, `positions` float32 `[n, 2]` in metres,
    and `csi` as users are compared with it: as stored, or degraded where the cell says that its survey was better
    synchronised than its users are. `base` holds the references of the first segments, those that the manifest calls
    indexed; `references` extends them to all segments.
    """

    contents: Contents
    csi: PackedCsi | DegradedCsi
    base: References
    references: References
    frame: LocalFrame
    extent: Extent

    @classmethod
    def assemble(
        cls,
        contents: Contents,
        before: "CellVersion | None" = None,
        index: Callable[[NDArray[np.float32], Snapshots], References] = References.of,
    ) -> Self:
        """Indexes the contents of a version. Reuses the indices of the version `before` where they are the same.

        `index` makes the references of the segments that the manifest calls indexed. The result does not depend on
        `before`. Raises `TooFewFingerprints` if the version has no fingerprint.
        """
        if not len(contents):
            raise TooFewFingerprints(wanted=1, available=0)
        cell, indexed = contents.manifest.cell, contents.manifest.indexed
        degradation = Degradation.of(cell)

        def compared(first: int, parts: Sequence[CsiPart]) -> PackedCsi | DegradedCsi:
            """The CSI of parts in sequence, whose first fingerprint is `first`."""
            csi = PackedCsi(parts)
            if degradation is None:
                return csi
            return DegradedCsi(csi, contents.ids[first : first + len(csi)], degradation)

        parts = [_part(*one) for one in zip(contents.segments, contents.kept, strict=True)]
        same = before is not None and Degradation.of(before.cell) == degradation
        shared = _shared(contents, before.contents) if before is not None and same else 0
        if before is not None and same and shared >= indexed == before.contents.manifest.indexed:
            base = before.base
            whole = shared >= len(before.contents.segments)
            references, done = (before.references, shared) if whole else (base, indexed)
        else:
            csi = compared(0, parts[:indexed])
            references = base = index(contents.positions[: len(csi)], csi)
            done = indexed
        for part in parts[done:]:
            held = len(references)
            some = compared(held, [part])
            references = references.extended(contents.positions[held : held + len(some)], some)
        low, high = contents.positions.min(axis=0).tolist(), contents.positions.max(axis=0).tolist()
        return cls(
            contents=contents,
            csi=compared(0, parts),
            base=base,
            references=references,
            frame=LocalFrame(cell.latitude_deg, cell.longitude_deg),
            extent=Extent(*low, *high),
        )

    @property
    def manifest(self) -> Manifest:
        return self.contents.manifest

    @property
    def cell(self) -> Cell:
        return self.manifest.cell

    @property
    def survey_sto(self) -> float | None:
        """1-sigma STO in seconds of `csi`, which differs from the cell's where it is degraded; None if unknown."""
        return self.cell.user_sto if isinstance(self.csi, DegradedCsi) else self.cell.survey_sto

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def ids(self) -> NDArray[np.uint64]:
        return self.contents.ids

    @property
    def positions(self) -> NDArray[np.float32]:
        return self.contents.positions

    @property
    def index(self) -> PositionIndex:
        return self.references.index

    @property
    def signals(self) -> SignalIndex:
        return self.references.signals

    @property
    def resident_bytes(self) -> int:
        """Bytes of memory in use, without those of mapped files."""
        contents = self.contents
        labels = sum(one.nbytes for one in (contents.ids, contents.positions, contents.times, contents.sigmas))
        return labels + self.csi.resident_bytes + self.references.resident_bytes

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def sigmas(self) -> NDArray[np.float32]:
        """1-sigma errors of the positions `[n]`, metres."""
        return self.contents.sigmas

    def csi_of(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """The CSI with which users are compared, of the fingerprints at `indices` `[...]`.

        Float32 real pairs `[..., antennas, subcarriers, 2]`.

        Raises `IndexError` for an index outside the version.
        """
        return self.csi.pairs(indices)


def _part(segment: Segment, kept: NDArray[np.bool_] | None) -> CsiPart:
    return CsiPart(segment.csi, segment.scale, None if kept is None else np.flatnonzero(kept))


def _shared(contents: Contents, before: Contents) -> int:
    """How many leading segments both versions share, with the same fingerprints alive."""
    count = 0
    pairs = zip(contents.manifest.segments, before.manifest.segments, contents.kept, before.kept, strict=False)
    for one, other, kept, kept_before in pairs:
        alike = kept is kept_before if kept is None or kept_before is None else np.array_equal(kept, kept_before)
        if one != other or not alike:
            break
        count += 1
    return count
