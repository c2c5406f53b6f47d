"""The exported network, run by ONNX Runtime."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.artifact import Artifact, ArtifactManifest
from service.errors import InferenceFailed

_Array = NDArray[np.float32]


class NetworkUnusable(Exception):
    """An artifact's network does not load, or does not answer a plain question with finite numbers."""


class Network:
    """The artifact's `full` graph. One thread of its own runs it, whichever thread asks.

    Raises `NetworkUnusable` unless a real inference succeeds.
    """

    def __init__(self, artifact: Artifact, threads: int, providers: Sequence[str]) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.manifest: ArtifactManifest = artifact.manifest
        self._last_answer = -np.inf
        self.answers = 0  # inferences that succeeded
        try:
            graph = artifact.graphs["full"]
            self._session = ort.InferenceSession(graph, options, providers=list(providers))
        except Exception as error:  # ONNX Runtime raises many kinds, none of them documented
            raise NetworkUnusable(f"{artifact.directory}: {type(error).__name__}: {error}") from error
        self._owner = ThreadPoolExecutor(1, thread_name_prefix="inference")
        try:
            self.prove()
        except InferenceFailed as error:
            self.close()
            raise NetworkUnusable(f"{artifact.directory}: {error}") from error

    def positions(
        self, csi_known: _Array, positions_known: _Array, csi: _Array, coarse: _Array, accuracy: _Array
    ) -> _Array:
        """Where each CSI was measured, float32 `[b, 2]` metres; not finite where the network knows no answer.

        `csi_known` `[b, neighbours, antennas, subcarriers, 2]`, `positions_known` `[b, neighbours, 2]`, `csi`
        `[b, antennas, subcarriers, 2]`, `coarse` `[b, 2]` metres and `accuracy` `[b]`, its 1-sigma error on each axis
        in metres; all float32. Where there is no coarse position both are NaN. Blocks. Raises `InferenceFailed`.
        """
        known: NDArray[np.bool_] = np.isfinite(accuracy)
        feeds = {
            "csi_known": csi_known,
            "positions_known": positions_known,
            "csi": csi[:, np.newaxis],
            "coarse": np.where(known[:, np.newaxis], coarse, np.float32(0))[:, np.newaxis],
            "accuracy": np.where(known, accuracy, np.float32(np.inf))[:, np.newaxis],
        }
        try:
            answer = self._owner.submit(self._run, feeds)
        except RuntimeError as error:
            raise InferenceFailed("the network has been stopped") from error
        return answer.result()

    def prove(self) -> None:
        """Runs a real inference on plane waves. Raises `InferenceFailed` unless the answer is finite."""
        csi, n = self.manifest.csi, self.manifest.minimum_neighbours
        waves = plane_waves(csi.antennas, csi.subcarriers, n + 1)[np.newaxis]
        places = np.linspace(-5, 5, 2 * n, dtype=np.float32).reshape(1, n, 2)
        nowhere = np.full((1, 2), np.nan, np.float32)
        if not np.isfinite(self.positions(waves[:, :n], places, waves[:, n], nowhere, nowhere[:, 0])).all():
            raise InferenceFailed("the network's answer is not finite")

    @property
    def seconds_since_answer(self) -> float:
        """How long ago the last inference succeeded."""
        return time.monotonic() - self._last_answer

    def close(self) -> None:
        self._owner.shutdown(wait=True, cancel_futures=True)

    def _run(self, feeds: dict[str, _Array]) -> _Array:
        try:
            (answer,) = self._session.run(["positions"], self.manifest.graphs["full"].taken(feeds))
        except Exception as error:
            raise InferenceFailed("the network could not be run") from error
        self._last_answer = time.monotonic()
        self.answers += 1
        positions: _Array = answer[:, 0]
        return positions


def plane_waves(antennas: int, subcarriers: int, n: int) -> _Array:
    """n plane waves of different direction and delay, float32 `[n, antennas, subcarriers, 2]`."""
    step = np.linspace(0.1, 1.3, n)[:, np.newaxis, np.newaxis]
    phase = step * np.arange(antennas)[:, np.newaxis] - 0.3 * step * np.arange(subcarriers)
    return np.stack([np.cos(phase), np.sin(phase)], axis=-1).astype(np.float32)
