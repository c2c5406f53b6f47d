"""Locates trajectories, and estimates the path features that the base station did not measure."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference_db.cell import Cell
from reference_db.half_csi import as_complex
from reference_db.path_features import estimate_path_features
from service.inference.trajectory_session import TrajectorySession
from service.telemetry.stopwatch import Stopwatch


class Points(NamedTuple):
    """Where each vertex of a trajectory is, then the centroid, in metres east and north."""

    positions: NDArray[np.float32]  # [vertices + 1, 2]
    covariances: NDArray[np.float32]  # [vertices + 1, 2, 2], not yet calibrated


class Trajectory(NamedTuple):
    """Snapshots of one user: CSI float32 `[vertices, antennas, subcarriers, 2]`, each finite and not all zero.

    `path_features` float64 `[vertices, 4]` as `TrajectoryManifest` describes them, NaN where not measured.
    """

    cell: Cell
    csi: NDArray[np.float32]
    path_features: NDArray[np.float64]


class TrajectoryEstimator:
    def __init__(self, session: TrajectorySession) -> None:
        self._session = session

    def locate(self, users: Sequence[Trajectory], stopwatch: Stopwatch) -> list[Points]:
        """Returns the local positions of each user, and how far off they may be.

        Takes trajectories of any cells. For the owner thread only. Raises `InferenceFailed` or `OutOfMemory`.
        """
        csi = np.stack([user.csi for user in users])
        with stopwatch.stage("cues"):  # the stage's name in metrics, which dashboards query
            path_features = _complete_path_features(users)
        with stopwatch.stage("joint"):
            located = self._session.locate(csi, path_features.astype(np.float32))
        return [Points(*one) for one in zip(*located, strict=True)]


def points_within(points: NDArray[np.floating], radius: float) -> bool:
    """Whether all `points` `[n, 2]` lie within `radius` of one of them."""
    apart = np.linalg.norm(points[:, np.newaxis] - points, axis=-1)
    return bool(apart.max(axis=1).min() <= radius)


def _complete_path_features(users: Sequence[Trajectory]) -> NDArray[np.float64]:
    """Path features `[b, vertices, 4]`; missing ones are estimated from the CSI, all of one cell at once."""
    path_features = np.stack([user.path_features for user in users])
    missing = np.isnan(path_features)
    cells: dict[Cell, list[tuple[int, int]]] = defaultdict(list)
    for row, vertex in np.argwhere(missing.any(axis=2)).tolist():
        cells[users[row].cell].append((row, vertex))
    for cell, incomplete in cells.items():
        csi = as_complex(np.stack([users[row].csi[vertex] for row, vertex in incomplete]))
        rows, vertices = np.array(incomplete).T
        measured = path_features[rows, vertices]
        path_features[rows, vertices] = np.where(missing[rows, vertices], estimate_path_features(csi, cell), measured)
    return path_features
