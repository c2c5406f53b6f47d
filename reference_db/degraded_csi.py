"""CSI degraded alike: as if the radios of a survey had the sampling-time offsets (STO) of the users.

Fingerprints that synchronised radios measured have delays that no user's radio reproduces. Compared with them, a user
with an STO looks like a user elsewhere. If each fingerprint has an STO of its own, of the users' size, absolute delays
count for as little as they are worth.
"""

import math
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from reference_db.cell import Cell
from reference_db.half_csi import PackedCsi

# Two streams of random numbers for each fingerprint: its STO, and its common phase.
_OFFSET, _PHASE = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03)


class Degradation(NamedTuple):
    """The STO that fingerprints lack, 1 sigma in seconds, on a grid of `subcarriers` that are `step` hertz apart."""

    sto: float
    subcarriers: int
    step: float

    @classmethod
    def of(cls, cell: Cell) -> Self | None:
        """None where the fingerprints' STO is unknown, or no better than the users'."""
        survey, user = cell.survey_sto, cell.user_sto
        if survey is None or user is None or user <= survey:
            return None
        return cls(math.sqrt(user**2 - survey**2), cell.subcarriers, cell.bandwidth / cell.subcarriers)

    def factors(self, ids: NDArray[np.uint64]) -> NDArray[np.complex64]:
        """What the CSI of fingerprints is multiplied by: `[..., subcarriers]`, always the same for the same id.

        The STO is uniform, the common phase too.
        """
        offset = self.sto * math.sqrt(3) * (2 * _uniform(ids, _OFFSET) - 1)
        grid = np.arange(self.subcarriers) - self.subcarriers // 2
        cycles = _uniform(ids, _PHASE)[..., np.newaxis] - self.step * offset[..., np.newaxis] * grid
        factors: NDArray[np.complex64] = np.exp(2j * np.pi * cycles).astype(np.complex64)
        return factors


class DegradedCsi:
    """Packed CSI of the fingerprints `ids` uint64 `[n]`, degraded as it is read. Nothing degraded is kept."""

    def __init__(self, csi: PackedCsi, ids: NDArray[np.uint64], degradation: Degradation) -> None:
        self._csi = csi
        self._ids = ids
        self._degradation = degradation

    def __len__(self) -> int:
        return len(self._csi)

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.complex64]:
        csi: NDArray[np.complex64] = self._csi[rows]
        csi *= self._degradation.factors(self._ids[rows])[..., np.newaxis, :]
        return csi

    def pairs(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """As `PackedCsi.pairs`."""
        csi = self[rows]
        return csi.view(np.float32).reshape(*csi.shape, 2)

    @property
    def resident_bytes(self) -> int:
        """As `PackedCsi.resident_bytes`; the ids are those of the version."""
        return self._csi.resident_bytes


def _uniform(ids: NDArray[np.uint64], stream: np.uint64) -> NDArray[np.float64]:
    """Numbers in [0, 1) by the finaliser of SplitMix64, which every id and stream mixes into another number."""
    with np.errstate(over="ignore"):
        mixed = ids ^ stream
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53
