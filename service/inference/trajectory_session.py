"""The exported network for trajectories, run by ONNX Runtime."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.artifact import TrajectoryArtifact
from service.errors import InferenceFailed, OutOfMemory
from service.inference.bound_graph import BoundGraph, load_graphs
from service.inference.session import ModelUnusable, plane_waves

_Array = NDArray[np.float32]
_P = ParamSpec("_P")
_T = TypeVar("_T")


class TrajectorySession:
    """The artifact's graph, and the one thread that runs it, another than `Network`'s: neither waits for the other.

    Raises `ModelUnusable` unless a real inference succeeds, on the first of `providers`.
    """

    def __init__(self, artifact: TrajectoryArtifact, threads: int, providers: Sequence[str]) -> None:
        self.manifest = artifact.manifest
        self.providers = list(providers)
        self._artifact = artifact
        self._threads = threads
        try:
            self._graph = self._load()
        except Exception as error:  # ONNX Runtime raises many kinds, none of them documented
            raise ModelUnusable.of(artifact.directory, error) from error
        self._owner = ThreadPoolExecutor(1, thread_name_prefix="trajectories")
        try:
            self.prove()
        except (InferenceFailed, OutOfMemory) as error:
            self.close()
            raise ModelUnusable.of(artifact.directory, error) from error

    def submit(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Calls `function` in the owner thread, after whatever was submitted before. Raises `InferenceFailed`."""
        try:
            return self._owner.submit(function, *args, **kwargs)
        except RuntimeError as error:
            raise InferenceFailed("the network has been stopped") from error

    def run(self, csi: _Array, cues: _Array) -> _Array:
        """Where trajectories are, float32 `[b, vertices + 1, 2]` metres: each vertex, then the centroid.

        `csi` float32 `[b, vertices, antennas, subcarriers, 2]`, `cues` float32 `[b, vertices, 4]`, as
        `TrajectoryManifest` has them. For the owner thread only. Raises `OutOfMemory`, or `InferenceFailed`, and
        then has its session made anew: whatever went wrong in one stays in it.
        """
        try:
            (positions,) = self._graph.run({"csi": csi, "cues": cues})
        except MemoryError as error:
            raise OutOfMemory("there is no memory to run the network for trajectories") from error
        except Exception as error:
            with suppress(Exception):  # the next run that fails tries again
                self._graph = self._load()
            raise InferenceFailed("the network for trajectories could not be run") from error
        return positions

    def prove(self) -> None:
        """Locates plane waves. Raises `InferenceFailed` unless the answer is finite and has a place for everything."""
        csi, n = self.manifest.csi, self.manifest.vertices
        waves = plane_waves(csi.antennas, csi.subcarriers, n)[np.newaxis]
        cues = np.broadcast_to(np.array([0.1, -3.0, 50.0, 1e-9], np.float32), (1, n, 4))
        positions = self.submit(self.run, waves, cues).result()
        if positions.shape != (1, n + 1, 2) or not np.isfinite(positions).all():
            raise InferenceFailed("the answer about trajectories is not finite, or of another shape")

    def close(self) -> None:
        self._owner.shutdown(wait=True, cancel_futures=True)

    def _load(self) -> BoundGraph:
        return load_graphs(self._artifact, self._threads, self.providers, {})["full"]
