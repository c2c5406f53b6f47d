"""A Mateformer as functions over arrays, run by PyTorch or by ONNX Runtime, in the steps of the service.

Both run the graphs (or methods) ``describe``, ``frame`` and ``query`` and keep a frame's keys and values in half
precision. What is measured with them is therefore what the service computes.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from models.artifact import MateformerArtifact, written
from models.artifact.channel_transform import ChannelTransform
from models.mateformer.network import Coarse, Estimates, KeysValues, Mateformer

SNAPSHOTS_AT_ONCE = 128  # described together: this bounds memory

_Floats = NDArray[np.float32]


class Positions(NamedTuple):
    """Positions [b, q, 2] in metres, covariances [b, q, 2, 2] in square metres, NaN from a model that predicts none."""

    positions: _Floats
    covariances: _Floats


class Locator(Protocol):
    def describe(self, channel: ChannelTransform, csi: NDArray[np.complex64]) -> _Floats:
        """The features of snapshots [t, antennas, subcarriers] of one cell: float32 [t, F]."""
        ...

    def locate(
        self,
        features_known: _Floats,  # [b, n, F]
        positions_known: _Floats,  # [b, n, 2] metres
        sigmas_known: _Floats,  # [b, n] 1-sigma error of the labels per axis, metres; 0 where unknown
        features: _Floats,  # [b, q, F]
        coarse: _Floats,  # [b, q, 2] metres
        accuracy: _Floats,  # [b, q] metres; infinite without a coarse position
    ) -> Positions: ...


class TorchLocator:
    def __init__(self, model: Mateformer, device: torch.device) -> None:
        self._model, self._device = model.to(device).eval(), device

    def describe(self, channel: ChannelTransform, csi: NDArray[np.complex64]) -> _Floats:
        with torch.inference_mode():
            return np.concatenate(
                [self._model.describe(*self._moved(feeds).values()).cpu().numpy() for feeds in _feeds(channel, csi)]
            )

    def locate(
        self,
        features_known: _Floats,
        positions_known: _Floats,
        sigmas_known: _Floats,
        features: _Floats,
        coarse: _Floats,
        accuracy: _Floats,
    ) -> Positions:
        found = self.query(features_known, positions_known, sigmas_known, features, coarse, accuracy)
        return Positions(found.position.cpu().numpy(), found.covariance.cpu().numpy())

    def query(
        self,
        features_known: _Floats,
        positions_known: _Floats,
        sigmas_known: _Floats,
        features: _Floats,
        coarse: _Floats,
        accuracy: _Floats,
    ) -> Estimates:
        """All that `locate` finds out, on the device."""
        known = self._moved({"f": features_known, "p": positions_known, "s": sigmas_known})
        asked = self._moved({"f": features, "c": coarse, "a": accuracy})
        with torch.inference_mode():
            frame = self._model.frame(*known.values())
            rounded = [KeysValues(*(part.half().float() for part in layer)) for layer in frame.keys_values]
            frame = frame._replace(keys_values=rounded)
            return self._model.query(asked["f"], Coarse(asked["c"], asked["a"]), frame)

    def _moved(self, arrays: dict[str, _Floats]) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(array).to(self._device) for name, array in arrays.items()}


class OnnxLocator:
    def __init__(self, artifact: MateformerArtifact, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # torch or NumPy use the cores next
        self._graphs = artifact.manifest.graphs
        self._sessions = {
            name: onnxruntime.InferenceSession(artifact.graphs[name], options, providers=["CPUExecutionProvider"])
            for name in ("describe", "frame", "query", "query_few")
            if name in artifact.graphs
        }

    def describe(self, channel: ChannelTransform, csi: NDArray[np.complex64]) -> _Floats:
        return np.concatenate([self._run("describe", feeds)["features"] for feeds in _feeds(channel, csi)])

    def locate(
        self,
        features_known: _Floats,
        positions_known: _Floats,
        sigmas_known: _Floats,
        features: _Floats,
        coarse: _Floats,
        accuracy: _Floats,
        graph: str = "query",
    ) -> Positions:
        """As `Locator.locate`, by the graph ``query`` or ``query_few``."""
        batch, neighbours = positions_known.shape[:2]
        slots = {"slots": np.arange(batch)}
        pools = {
            spec.name: np.zeros(spec.sized(pool=batch, neighbours=neighbours), spec.dtype)
            for spec in self._graphs["frame"].pools
        }
        known = {
            "features_known": features_known,
            "positions_known": positions_known,
            "sigmas_known": sigmas_known,
        }
        frames = self._run("frame", known | slots | pools)
        asked = {"features": features, "coarse": coarse, "accuracy": accuracy}
        found = self._run(graph, asked | slots | {name: frames[written(name)] for name in pools})
        return Positions(found["positions"], found["covariances"])

    def _run(self, graph: str, inputs: dict[str, NDArray[np.generic]]) -> dict[str, _Floats]:
        names = [spec.name for spec in self._graphs[graph].outputs]
        found = self._sessions[graph].run(names, self._graphs[graph].taken(inputs))
        return dict(zip(names, found, strict=True))


def _feeds(channel: ChannelTransform, csi: NDArray[np.complex64]) -> list[dict[str, _Floats]]:
    pairs = np.ascontiguousarray(csi)[..., None].view(np.float32)
    return [
        channel.feeds(pairs[first : first + SNAPSHOTS_AT_ONCE]) for first in range(0, len(pairs), SNAPSHOTS_AT_ONCE)
    ]
