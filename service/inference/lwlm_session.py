"""Runs an artifact that measures and locates users by their CSI alone."""

from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.artifact import LwlmArtifact, LwlmManifest
from service.errors import InferenceFailed
from service.inference.session import ModelSession, plane_waves

_Array = NDArray[np.float32]

_PROVEN_HEIGHT = 10.0  # metres


class Measured(NamedTuple):
    """What the graph `full` says of `b` snapshots, as `LwlmManifest` describes its outputs; all float32."""

    range: _Array
    aoa: _Array
    line_of_sight: _Array
    position: _Array
    covariance: _Array
    attention: _Array


class Fused(NamedTuple):
    """What the graph `fuse` says of `b` users: positions `[b, 2]`, covariances `[b, 2, 2]`, weights `[b, stations]`."""

    position: _Array
    covariance: _Array
    weights: _Array


class LwlmSession(ModelSession[LwlmArtifact]):
    """The graph `full`, which measures snapshots of one shape, and `fuse`, which joins base stations."""

    @property
    def manifest(self) -> LwlmManifest:
        return self.artifact.manifest

    def measure(self, csi: _Array, configuration: _Array) -> Measured:
        """Measures snapshots.

        `csi` float32 `[b, antennas, subcarriers, 2]`, `configuration` float32 `[b, 2]`, as `LwlmManifest` describes
        them. For the owner thread only. Raises `OutOfMemory` or `InferenceFailed`.
        """
        return Measured(**self._run_named("full", {"csi": csi, "configuration": configuration}, Measured._fields))

    def fuse(self, positions: _Array, covariances: _Array, attention: _Array) -> Fused:
        """Joins what several base stations say of each user, all in one east-north frame.

        `positions` float32 `[b, stations, 2]`, `covariances` `[b, stations, 2, 2]`, `attention` `[b, stations]`. For
        the owner thread only. Raises `OutOfMemory` or `InferenceFailed`.
        """
        feeds = {"positions": positions, "covariances": covariances, "attention": attention}
        return Fused(**self._run_named("fuse", feeds, Fused._fields))

    def prove(self) -> None:
        contract = self.manifest.csi
        for antennas, subcarriers in product(contract.antennas, contract.subcarriers):
            configuration = np.array([[contract.maximum_bandwidth, _PROVEN_HEIGHT]], np.float32)
            one = self.submit(self.measure, plane_waves(antennas, subcarriers, 1), configuration).result()
            _check(one, (1, 2), (1, 2), (1,), (1, 2), (1, 2, 2), (1,))
            several = [np.repeat(part[np.newaxis], 2, axis=1) for part in (one.position, one.covariance, one.attention)]
            _check(self.submit(self.fuse, *several).result(), (1, 2), (1, 2, 2), (1, 2))

    def _run_named(self, graph: str, feeds: dict[str, _Array], wanted: tuple[str, ...]) -> dict[str, _Array]:
        outputs = self.run(graph, feeds)
        return {name: outputs[name] for name in wanted}


def _check(outputs: Measured | Fused, *shapes: tuple[int, ...]) -> None:
    """Raises `InferenceFailed` unless each output has its shape and is finite."""
    for output, shape in zip(outputs, shapes, strict=True):
        if output.shape != shape or not np.isfinite(output).all():
            raise InferenceFailed("the model's answer is not finite or has an unexpected shape")
