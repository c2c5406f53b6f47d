"""Runs an artifact for trajectories."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.artifact import TrajectoryArtifact, TrajectoryManifest
from service.errors import InferenceFailed
from service.inference.session import ModelSession, plane_waves

_Array = NDArray[np.float32]

PATH_FEATURES = ("aod", "aoa", "range", "gain")


class LocatedTrajectories(NamedTuple):
    """Each vertex of `b` trajectories, then the centroid; float32, metres east and north."""

    positions: _Array  # [b, vertices + 1, 2]
    covariances: _Array  # [b, vertices + 1, 2, 2], not yet calibrated


class TrajectorySession(ModelSession[TrajectoryArtifact]):
    """The graph `full`, which locates all points of a trajectory at once."""

    @property
    def manifest(self) -> TrajectoryManifest:
        return self.artifact.manifest

    def locate(self, csi: _Array, path_features: _Array) -> LocatedTrajectories:
        """Locates trajectories.

        `csi` float32 `[b, vertices, antennas, subcarriers, 2]`, `path_features` float32 `[b, vertices, 4]`, as
        `TrajectoryManifest` describes them. For the owner thread only. Raises `OutOfMemory` or `InferenceFailed`.
        """
        outputs = self.run("full", {"csi": csi, "path_features": path_features})
        return LocatedTrajectories(outputs["positions"], outputs["covariances"])

    def prove(self) -> None:
        csi, n = self.manifest.csi, self.manifest.vertices
        waves = plane_waves(csi.antennas, csi.subcarriers, n)[np.newaxis]
        path_features = np.broadcast_to(np.array([0.1, -3.0, 50.0, 1e-9], np.float32), (1, n, len(PATH_FEATURES)))
        located = self.submit(self.locate, waves, path_features).result()
        for part, shape in zip(located, ((1, n + 1, 2), (1, n + 1, 2, 2)), strict=True):
            if part.shape != shape or not np.isfinite(part).all():
                raise InferenceFailed("the model's answer is not finite or has an unexpected shape")
        if not np.linalg.eigvalsh(located.covariances).min() > 0:
            raise InferenceFailed("the model's covariances are not those of ellipses")
