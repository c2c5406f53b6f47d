"""Runs an artifact for trajectories."""

import numpy as np
from numpy.typing import NDArray

from models.artifact import TrajectoryArtifact, TrajectoryManifest
from service.errors import InferenceFailed
from service.inference.session import ModelSession, plane_waves

_Array = NDArray[np.float32]

PATH_FEATURES = ("aod", "aoa", "range", "gain")


class TrajectorySession(ModelSession[TrajectoryArtifact]):
    """The graph `full`, which locates all points of a trajectory at once."""

    @property
    def manifest(self) -> TrajectoryManifest:
        return self.artifact.manifest

    def locate(self, csi: _Array, path_features: _Array) -> _Array:
        """Locates trajectories, float32 `[b, vertices + 1, 2]` metres: each vertex, then the centroid.

        `csi` float32 `[b, vertices, antennas, subcarriers, 2]`, `path_features` float32 `[b, vertices, 4]`, as
        `TrajectoryManifest` describes them. For the owner thread only. Raises `OutOfMemory` or `InferenceFailed`.
        """
        # Shipped graphs call the input of the path features "cues".
        return self.run("full", {"csi": csi, "cues": path_features})["positions"]

    def prove(self) -> None:
        csi, n = self.manifest.csi, self.manifest.vertices
        waves = plane_waves(csi.antennas, csi.subcarriers, n)[np.newaxis]
        path_features = np.broadcast_to(np.array([0.1, -3.0, 50.0, 1e-9], np.float32), (1, n, len(PATH_FEATURES)))
        positions = self.submit(self.locate, waves, path_features).result()
        if positions.shape != (1, n + 1, 2) or not np.isfinite(positions).all():
            raise InferenceFailed("the model's answer is not finite or has an unexpected shape")
