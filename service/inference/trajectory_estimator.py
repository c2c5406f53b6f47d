"""From the snapshots of a trajectory to the positions of its points, cues that were not measured estimated."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference_db.cell import Cell
from reference_db.half_csi import as_complex
from reference_db.path_features import estimate_path_features
from service.inference.trajectory_session import TrajectorySession
from service.telemetry.metrics import Stopwatch

CUES = 4


class Trajectory(NamedTuple):
    """Snapshots of one user: CSI float32 `[vertices, antennas, subcarriers, 2]`, each finite and not all zero.

    `cues` float64 `[vertices, 4]` as `TrajectoryManifest` has them, NaN where they were not measured.
    """

    cell: Cell
    csi: NDArray[np.float32]
    cues: NDArray[np.float64]


class TrajectoryEstimator:
    def __init__(self, network: TrajectorySession) -> None:
        self._network = network

    def locate(self, users: Sequence[Trajectory], stopwatch: Stopwatch) -> NDArray[np.float32]:
        """Local positions float32 `[b, vertices + 1, 2]` of trajectories of any cells, metres, the centroid last.

        For the network's owner thread only. Raises `InferenceFailed`.
        """
        csi = np.stack([one.csi for one in users])
        with stopwatch.stage("cues"):
            cues = _completed(users)
        with stopwatch.stage("joint"):
            return self._network.run(csi, cues.astype(np.float32))


def points_within(points: NDArray[np.floating], radius: float) -> bool:
    """Whether all of the points `[n, 2]` lie within `radius` of one of them."""
    apart = np.linalg.norm(points[:, np.newaxis] - points, axis=-1)
    return bool(apart.max(axis=1).min() <= radius)


def _completed(users: Sequence[Trajectory]) -> NDArray[np.float64]:
    """Cues `[b, vertices, 4]`, those that are missing estimated from the CSI: a cell's all at once."""
    cues = np.stack([one.cues for one in users])
    missing = np.isnan(cues)
    cells: dict[Cell, list[tuple[int, int]]] = defaultdict(list)
    for row, vertex in np.argwhere(missing.any(axis=2)).tolist():
        cells[users[row].cell].append((row, vertex))
    for cell, places in cells.items():
        estimated = estimate_path_features(
            as_complex(np.stack([users[row].csi[vertex] for row, vertex in places])), cell
        )
        rows, vertices = np.array(places).T
        cues[rows, vertices] = np.where(missing[rows, vertices], estimated, cues[rows, vertices])
    return cues
