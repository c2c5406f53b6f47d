"""Runs a Mateformer artifact: one neighbourhood a user, or frames that many users share."""

import math
from collections.abc import Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.artifact import MateformerArtifact, MateformerManifest, TensorSpec
from service.errors import InferenceFailed
from service.inference.session import ModelSession, plane_waves

_Array = NDArray[np.float32]

_SAME_M = 0.05  # frames are kept in half precision
_DEVICES = {"CUDAExecutionProvider": "cuda"}  # where a provider keeps its memory; all others: the CPU


class MateformerSession(ModelSession[MateformerArtifact]):
    """The graphs `full` and, where the artifact has them, `frame` and `query`, which share pools of frames."""

    @property
    def manifest(self) -> MateformerManifest:
        return self.artifact.manifest

    @property
    def has_frames(self) -> bool:
        """Whether a neighbourhood can be encoded once for all users in it."""
        graphs = self.manifest.graphs
        return "frame" in graphs and "query" in graphs and bool(graphs["frame"].pools)

    @property
    def wants_few_shapes(self) -> bool:
        """Whether a new input shape costs the provider far more than padding to a larger known shape."""
        return self.providers[0] in _DEVICES

    @property
    def frame_bytes(self) -> int:
        """Size of the frame of a full neighbourhood."""
        pools = self.manifest.graphs["frame"].pools
        return sum(math.prod(self._sized(spec, 1)) * np.dtype(spec.dtype).itemsize for spec in pools)

    def make_room(self, frames: int) -> None:
        """Allocates pools with one slot a frame on the provider's device; the system commits memory as slots fill."""
        device = _DEVICES.get(self.providers[0], "cpu")
        self._pools = {
            spec.name: ort.OrtValue.ortvalue_from_shape_and_type(self._sized(spec, frames), spec.dtype, device)
            for spec in self.manifest.graphs["frame"].pools
        }
        self._graphs = {name: graph.rebound(self._pools) for name, graph in self._graphs.items()}
        self._background_graphs = {}

    def locate_in_background(
        self, csi_known: _Array, positions_known: _Array, csi: _Array, coarse: _Array, accuracy: _Array
    ) -> _Array:
        """Locates each CSI, float32 `[b, 2]` metres; not finite where the model has no answer.

        All float32: `csi_known` `[b, neighbours, antennas, subcarriers, 2]`, `positions_known` `[b, neighbours, 2]`
        metres, `csi` `[b, antennas, subcarriers, 2]`, `coarse` `[b, 2]` metres, `accuracy` `[b]`, the 1-sigma error of
        `coarse` on each axis in metres. Both are NaN for a user without a coarse position. Runs the `full` graph, one
        neighbourhood a user, on the background session. Blocking. Raises `InferenceFailed` or `OutOfMemory`.
        """
        feeds = {"csi_known": csi_known, "positions_known": positions_known}
        located: _Array = self.run_in_background("full", feeds | as_users(csi, coarse, accuracy))[0][:, 0]
        return located

    def prove(self) -> None:
        known, users = self._waves(self.manifest.minimum_neighbours)
        _check(self.submit(self.run, "full", known | users).result())

    def prove_frame(self, slot: int) -> None:
        """Encodes plane waves into a slot and locates one of them by this frame.

        Raises `InferenceFailed` unless the `full` graph gives the same position.
        """
        known, users = self._waves(self.manifest.neighbourhood_size)
        slots = {"slots": np.array([slot])}
        self.submit(self.run, "frame", known | slots).result()
        by_full = _check(self.submit(self.run, "full", known | users).result())
        by_frame = _check(self.submit(self.run, "query", users | slots).result())
        if not np.allclose(by_full, by_frame, atol=_SAME_M):
            raise InferenceFailed("the graphs frame and query give another position than the graph full")

    def _sized(self, spec: TensorSpec, frames: int) -> tuple[int, ...]:
        return spec.sized(pool=frames, neighbours=self.manifest.neighbourhood_size)

    def _waves(self, n: int) -> tuple[dict[str, _Array], dict[str, _Array]]:
        """A neighbourhood of n plane waves, and one more as a user without a coarse position."""
        csi = self.manifest.csi
        waves = plane_waves(csi.antennas, csi.subcarriers, n + 1)[np.newaxis]
        places = np.linspace(-5, 5, 2 * n, dtype=np.float32).reshape(1, n, 2)
        nowhere = np.full((1, 2), np.nan, np.float32)
        return {"csi_known": waves[:, :n], "positions_known": places}, as_users(waves[:, n], nowhere, nowhere[:, 0])


def as_users(csi: _Array, coarse: _Array, accuracy: _Array) -> dict[str, _Array]:
    """Turns users `[b, ...]` into inputs of the graphs, one user a neighbourhood.

    A NaN coarse position becomes the origin with an infinite `accuracy`: the graphs take no NaN.
    """
    known: NDArray[np.bool_] = np.isfinite(accuracy)
    return {
        "csi": csi[:, np.newaxis],
        "coarse": np.where(known[:, np.newaxis], coarse, np.float32(0))[:, np.newaxis],
        "accuracy": np.where(known, accuracy, np.float32(np.inf))[:, np.newaxis],
    }


def _check(outputs: Sequence[_Array]) -> _Array:
    """The one position `[1, 1, 2]` that is expected. Raises `InferenceFailed`."""
    if [output.shape for output in outputs] != [(1, 1, 2)] or not np.isfinite(outputs[0]).all():
        raise InferenceFailed("the model's answer is not finite or has an unexpected shape")
    return outputs[0]
