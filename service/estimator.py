"""From CSI and, where there is one, a coarse position to a position: the one way of requests and calibration."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reference_db.cell_version import CellVersion
from reference_db.half_csi import as_complex
from reference_db.retrieval import first_neighbourhood, next_neighbourhood
from reference_db.signal_feature import signal_feature
from service.metrics import Stopwatch
from service.network import Network

# How every first neighbourhood is found; a calibration holds only for the way it was made.
Retrieval = Literal["fused"]
RETRIEVAL: Retrieval = "fused"

_Floats = NDArray[np.float32]
_Rows = NDArray[np.int64]


class Estimator:
    """Compares users with the fingerprints that are probably near them, `batch` users an inference."""

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
        accuracy: _Floats,
        stopwatch: Stopwatch,
        left_out: _Rows | None = None,
    ) -> _Floats:
        """Local positions float32 `[b, 2]` of users of one cell, in metres; NaN where the network fails.

        `csi` float32 `[b, antennas, subcarriers, 2]`, finite and not all zero; `coarse` float32 `[b, 2]` metres, NaN
        where there is none; `accuracy` float32 `[b]`, its 1-sigma error on each axis in metres; `left_out` int64 `[b]`:
        the fingerprint that each user is not compared with. Raises `InferenceFailed`.
        """
        answers = np.empty_like(coarse)
        for start in range(0, len(csi), self._batch):
            rows = slice(start, start + self._batch)
            out = None if left_out is None else left_out[rows]
            answers[rows] = self._locate(version, csi[rows], coarse[rows], accuracy[rows], stopwatch, out)
        return answers

    def _locate(
        self,
        version: CellVersion,
        csi: _Floats,
        coarse: _Floats,
        accuracy: _Floats,
        stopwatch: Stopwatch,
        left_out: _Rows | None,
    ) -> _Floats:
        references = version.references
        n = self.neighbours(len(version) - (left_out is not None))
        with stopwatch.stage("retrieve"):
            features = signal_feature(as_complex(csi))
            near = first_neighbourhood(references, RETRIEVAL, features, coarse, accuracy, n, left_out=left_out)
        centres = self._compare(version, near, csi, coarse, accuracy, stopwatch)
        for _ in range(self.manifest.passes - 1):
            found = _finite_rows(centres)
            if not found.any():
                break
            with stopwatch.stage("retrieve"):
                out = None if left_out is None else left_out[found]
                near = next_neighbourhood(references, centres[found], n, out)
            centres[found] = self._compare(version, near, csi[found], coarse[found], accuracy[found], stopwatch)
        centres[~_finite_rows(centres)] = np.nan
        return centres

    def _compare(
        self,
        version: CellVersion,
        near: _Rows,
        csi: _Floats,
        coarse: _Floats,
        accuracy: _Floats,
        stopwatch: Stopwatch,
    ) -> _Floats:
        with stopwatch.stage("retrieve"):
            known = version.csi_of(near), version.positions[near]
        with stopwatch.stage("infer"):
            return self._network.positions(*known, csi, coarse, accuracy)


def _finite_rows(positions: _Floats) -> NDArray[np.bool_]:
    finite: NDArray[np.bool_] = np.isfinite(positions[:, 0]) & np.isfinite(positions[:, 1])
    return finite
