"""One version of a cell, in memory and ready to serve."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from reference_db.cell import Cell
from reference_db.errors import CorruptManifest
from reference_db.geodesy import LocalFrame
from reference_db.half_csi import PackedCsi, unpack_csi
from reference_db.manifest import Manifest
from reference_db.position_index import PositionIndex
from reference_db.retrieval import References
from reference_db.segment import Segment
from reference_db.signal_index import SignalIndex

_Scalar = TypeVar("_Scalar", bound=np.generic)


class Extent(NamedTuple):
    """The smallest east-north rectangle around all positions of a cell, in metres."""

    west: float
    south: float
    east: float
    north: float


@dataclass(frozen=True, eq=False)
class CellVersion:
    """An immutable snapshot: whoever holds one sees no update, and its arrays are read-only.

    Row i of every array is fingerprint i of the indices: `ids` uint64 `[n]`, `positions` float32 `[n, 2]`
    metres, `csi` float16 `[n, antennas, subcarriers, 2]` with `scale` float32 `[n]` as stored, `times`
    float64 `[n]` Unix seconds, `sigmas` float32 `[n]` metres.
    """

    manifest: Manifest
    ids: NDArray[np.uint64]
    positions: NDArray[np.float32]
    csi: NDArray[np.float16]
    scale: NDArray[np.float32]
    times: NDArray[np.float64]
    sigmas: NDArray[np.float32]
    references: References
    frame: LocalFrame
    extent: Extent

    @classmethod
    def assemble(cls, manifest: Manifest, segments: Sequence[Segment]) -> Self:
        """Puts together what `manifest` lists, `segments` being its segments in order.

        Raises `CorruptManifest` when they do not fit each other or leave no fingerprint.
        """
        cell = manifest.cell
        shape = (cell.antennas, cell.subcarriers, 2)
        for reference, segment in zip(manifest.segments, segments, strict=True):
            if len(segment) != reference.count or segment.csi.shape[1:] != shape:
                raise CorruptManifest(f"manifest {manifest.digest} does not describe {reference.digest}")
        tombstones = np.array(manifest.tombstones, dtype=np.uint64)
        kept = [~np.isin(segment.ids, tombstones) for segment in segments]
        if not any(keep.any() for keep in kept):
            raise CorruptManifest(f"manifest {manifest.digest} leaves no fingerprint")
        positions = _kept_rows([segment.positions for segment in segments], kept)
        csi = _kept_rows([segment.csi for segment in segments], kept)
        scale = _kept_rows([segment.scale for segment in segments], kept)
        return cls(
            manifest=manifest,
            ids=_kept_rows([segment.ids for segment in segments], kept),
            positions=positions,
            csi=csi,
            scale=scale,
            times=_kept_rows([segment.times for segment in segments], kept),
            sigmas=_kept_rows([segment.sigmas for segment in segments], kept),
            references=References.of(positions, PackedCsi(csi, scale)),
            frame=LocalFrame(cell.latitude_deg, cell.longitude_deg),
            extent=Extent(*positions.min(axis=0).tolist(), *positions.max(axis=0).tolist()),
        )

    @property
    def cell(self) -> Cell:
        return self.manifest.cell

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def index(self) -> PositionIndex:
        return self.references.index

    @property
    def signals(self) -> SignalIndex:
        return self.references.signals

    def __len__(self) -> int:
        return len(self.ids)

    def csi_of(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """The CSI of fingerprints `[...]` as float32 real pairs `[..., antennas, subcarriers, 2]`.

        Raises `IndexError` for an index outside the version.
        """
        return unpack_csi(self.csi[indices], self.scale[indices])


def _kept_rows(arrays: Sequence[NDArray[_Scalar]], kept: Sequence[NDArray[np.bool_]]) -> NDArray[_Scalar]:
    pairs = zip(arrays, kept, strict=True)
    rows = np.concatenate([array if keep.all() else array[keep] for array, keep in pairs])  # CSI is large
    rows.flags.writeable = False
    return rows
