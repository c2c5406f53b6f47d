"""From CSI and a coarse position to a position: the one way that requests and calibration share."""

import numpy as np
from numpy.typing import NDArray

from reference_db.cell_version import CellVersion
from service.metrics import Stopwatch
from service.network import Network

_Floats = NDArray[np.float32]
_Rows = NDArray[np.int64]


class Estimator:
    """Compares users with the neighbourhoods of their coarse positions, `batch` users an inference."""

    def __init__(self, network: Network, batch: int) -> None:
        self._network = network
        self._batch = batch
        self.manifest = network.manifest

    def neighbours(self, fingerprints: int) -> int:
        """How many fingerprints a user is compared with in a cell of so many."""
        return min(self.manifest.neighbourhood_size, fingerprints)

    def positions(
        self,
        version: CellVersion,
        csi: _Floats,
        coarse: _Floats,
        stopwatch: Stopwatch,
        left_out: _Rows | None = None,
    ) -> _Floats:
        """Local positions float32 `[b, 2]` of users of one cell, in metres; NaN where the network fails.

        `csi` float32 `[b, antennas, subcarriers, 2]`, `coarse` float32 `[b, 2]` metres; `left_out` int64
        `[b]`: the fingerprint that each user is not compared with. Raises `InferenceFailed`.
        """
        answers = np.empty_like(coarse)
        for start in range(0, len(csi), self._batch):
            rows = slice(start, start + self._batch)
            out = None if left_out is None else left_out[rows]
            answers[rows] = self._locate(version, csi[rows], coarse[rows], stopwatch, out)
        return answers

    def _locate(
        self,
        version: CellVersion,
        csi: _Floats,
        coarse: _Floats,
        stopwatch: Stopwatch,
        left_out: _Rows | None,
    ) -> _Floats:
        centres = coarse.copy()
        for _ in range(self.manifest.passes):
            finite = _finite_rows(centres)
            if not finite.any():
                break
            with stopwatch.stage("retrieve"):
                neighbourhoods = self._neighbourhoods(version, centres, finite, left_out)
                known = version.csi_of(neighbourhoods), version.positions[neighbourhoods]
            with stopwatch.stage("infer"):
                centres[finite] = self._network.positions(*known, csi[finite])
        centres[~_finite_rows(centres)] = np.nan
        return centres

    def _neighbourhoods(
        self, version: CellVersion, centres: _Floats, finite: NDArray[np.bool_], left_out: _Rows | None
    ) -> _Rows:
        if left_out is None:
            return version.index.nearest(centres[finite], self.neighbours(len(version)))[0]
        n = self.neighbours(len(version) - 1)
        indices = version.index.nearest(centres[finite], n + 1)[0]
        others = indices != left_out[finite, np.newaxis]
        others[others.all(axis=1), -1] = False
        kept: _Rows = indices[others]
        return kept.reshape(-1, n)


def _finite_rows(positions: _Floats) -> NDArray[np.bool_]:
    finite: NDArray[np.bool_] = np.isfinite(positions[:, 0]) & np.isfinite(positions[:, 1])
    return finite
