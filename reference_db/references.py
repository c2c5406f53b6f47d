"""The fingerprints of a cell, indexed by position and by signal."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from reference_db.index.position import PositionIndex
from reference_db.index.signal import SHARPNESS, SignalIndex
from reference_db.index.signal_features import Features, SignalFeatures, Snapshots, signal_feature

DELAY_WEIGHTS = (0.05, 0.1, 0.2, 0.5, 1.0)

_MOST_FEATURES_HELD = 8192  # features of larger cells are computed again each time that they are needed
_BANDWIDTH_NEIGHBOUR, _BANDWIDTH_SAMPLE = 24, 512
_SMALLEST_BANDWIDTH = 0.1  # metres
_WEIGHED_USERS, _WEIGHED_REFERENCES = 256, 4096

_Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class References:
    """A cell's fingerprints, ready to be searched by position and by signal. Threads may share it.

    `positions` is float32 `[n, 2]` in metres. `knn_bandwidth` is the median distance in metres from a fingerprint to
    its 24th neighbour: the length scale of all kernels and gates over this cell.
    """

    positions: _Floats
    index: PositionIndex
    signals: SignalIndex
    knn_bandwidth: float

    @classmethod
    def of(cls, positions: _Floats, csi: Snapshots) -> Self:
        """Indexes fingerprints: positions `[n, 2]`, CSI `[n, antennas, subcarriers]`; n at least 1."""
        features = _features(csi)
        index = PositionIndex(positions)
        signals = SignalIndex(features, choose_delay_weight(features, positions))
        return cls(positions, index, signals, _knn_bandwidth(positions, index))

    @classmethod
    def of_arrays(cls, positions: _Floats, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The references of these positions `[n, 2]` that `arrays` came from. Copies the arrays."""
        bandwidth = float(arrays["knn_bandwidth"])
        return cls(positions, PositionIndex(positions), SignalIndex.of_arrays(arrays), bandwidth)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What costs much to compute, by name. Only of references that were not extended."""
        return {"knn_bandwidth": np.array(self.knn_bandwidth)} | self.signals.arrays()

    def extended(self, positions: _Floats, csi: Snapshots) -> Self:
        """These references followed by k more: positions `[k, 2]`, CSI `[k, antennas, subcarriers]`.

        The cost grows with k only; see `needs_reindexing` for how long to go on. The k-NN bandwidth and the delay
        weight stay as they are. The same fingerprints in the same portions make the same references.
        """
        index = self.index.extended(positions)
        return replace(self, positions=index.positions, index=index, signals=self.signals.extended(_features(csi)))

    @property
    def resident_bytes(self) -> int:
        """Bytes of memory in use, including those shared with the references that these were extended from."""
        return self.index.resident_bytes + self.signals.resident_bytes

    def __len__(self) -> int:
        return len(self.positions)


def choose_delay_weight(features: Features, positions: _Floats) -> float:
    """Chooses the weight of absolute delays that locates the cell's own fingerprints best, one of `DELAY_WEIGHTS`.

    Absolute delays are the best evidence when radios are synchronised, and false evidence when each snapshot has a
    sampling-time offset (STO) of its own. The radios that measured the fingerprints are like those to be located, so
    each fingerprint of a sample is located from the others (leave-one-out), once with each weight.

    Takes features `[n, D]` from `signal_feature` and positions float32 `[n, 2]` in metres. The choice is
    deterministic. With fewer than two fingerprints it is the smallest weight.
    """
    rows = np.random.default_rng(0).permutation(len(features))[:_WEIGHED_REFERENCES]
    users = rows[:_WEIGHED_USERS]
    if len(rows) < 2:
        return DELAY_WEIGHTS[0]
    halves = np.split(features[rows], 2, axis=1)
    own = np.arange(len(users))
    compensated, measured = (np.maximum(2 - 2 * (half[own] @ half.T), 0) for half in halves)  # squared, [users, rows]
    errors = []
    for weight in DELAY_WEIGHTS:
        squared = np.maximum((1 - weight) * compensated + weight * measured, 1e-8)
        squared[own, own] = np.inf
        likelihood = (squared.min(axis=1, keepdims=True) / squared) ** (SHARPNESS / 2)
        found = likelihood @ positions[rows] / likelihood.sum(axis=1, keepdims=True)
        errors.append(float(np.linalg.norm(found - positions[users], axis=1).mean()))
    return DELAY_WEIGHTS[int(np.argmin(errors))]


def _features(csi: Snapshots) -> Features:
    n = len(csi)
    return signal_feature(csi[np.arange(n)]) if n <= _MOST_FEATURES_HELD else SignalFeatures(csi)


def _knn_bandwidth(positions: _Floats, index: PositionIndex) -> float:
    sample = positions[:: max(1, len(positions) // _BANDWIDTH_SAMPLE)]
    radii = index.nearest(sample, min(_BANDWIDTH_NEIGHBOUR + 1, len(index)))[1][:, -1]
    return max(float(np.median(radii)), _SMALLEST_BANDWIDTH)
