"""The exported network, run by ONNX Runtime."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, Self, TypeVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.artifact import Artifact, ArtifactManifest, TensorSpec
from service.errors import InferenceFailed, OutOfMemory
from service.inference.bound_graph import BoundGraph, load_graphs
from service.inference.workers import lower_thread_priority

_Array = NDArray[np.float32]
_P = ParamSpec("_P")
_T = TypeVar("_T")


_SAME_M = 0.05  # frames are kept in half precision
_DEVICES = {"CUDAExecutionProvider": "cuda"}  # where a provider keeps its memory; all others on the CPU


class ModelUnusable(Exception):
    """An artifact's network does not load, or does not answer a plain question with finite numbers."""

    @classmethod
    def of(cls, directory: Path, error: Exception) -> Self:
        """Says what the matter is, also where that is ONNX Runtime's to say."""
        if not isinstance(error, InferenceFailed):
            return cls(f"{directory}: {type(error).__name__}: {error}")
        return cls(f"{directory}: {error}" + ("" if error.__cause__ is None else f": {error.__cause__}"))


class MateformerSession:
    """The artifact's graphs, and the one thread that runs them for users, whichever thread asks.

    What no user waits for runs `aside`: in sessions of its own, whose thread gives way.

    Raises `ModelUnusable` unless a real inference succeeds, on the first of `providers`.
    """

    def __init__(self, artifact: Artifact, threads: int, providers: Sequence[str]) -> None:
        self.manifest: ArtifactManifest = artifact.manifest
        self.providers = list(providers)
        self._artifact = artifact
        self._threads = threads
        self._pools: dict[str, ort.OrtValue] = {}  # on the provider's device
        self._last_answer = -np.inf
        self.answers = 0  # runs of any graph that succeeded
        if missing := set(providers) - set(ort.get_available_providers()):
            raise ModelUnusable(f"ONNX Runtime has no {', '.join(sorted(missing))} here")
        try:
            self._graphs = self._load(self._threads)
        except Exception as error:  # ONNX Runtime raises many kinds, none of them documented
            raise ModelUnusable.of(artifact.directory, error) from error
        self._owner = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._background_graphs: dict[str, BoundGraph] = {}
        self._spare = ThreadPoolExecutor(1, thread_name_prefix="inference-aside", initializer=lower_thread_priority)
        try:
            self.prove()
        except (InferenceFailed, OutOfMemory) as error:
            self.close()
            raise ModelUnusable.of(artifact.directory, error) from error

    @property
    def has_frames(self) -> bool:
        """Whether a neighbourhood can be encoded once for all users in it."""
        graphs = self.manifest.graphs
        return "frame" in graphs and "query" in graphs and bool(graphs["frame"].pools)

    @property
    def wants_few_shapes(self) -> bool:
        """Whether each new shape of its inputs costs the provider far more than a somewhat larger one."""
        return self.providers[0] in _DEVICES

    @property
    def frame_bytes(self) -> int:
        """What one frame of the common size takes."""
        pools = self.manifest.graphs["frame"].pools
        return sum(math.prod(self._sized(spec, 1)) * np.dtype(spec.dtype).itemsize for spec in pools)

    def make_room(self, frames: int) -> None:
        """Pools with a slot for each of so many frames, where the graphs run; memory is taken as slots are used."""
        device = _DEVICES.get(self.providers[0], "cpu")
        self._pools = {
            spec.name: ort.OrtValue.ortvalue_from_shape_and_type(self._sized(spec, frames), spec.dtype, device)
            for spec in self.manifest.graphs["frame"].pools
        }
        self._graphs = {name: graph.rebound(self._pools) for name, graph in self._graphs.items()}
        self._background_graphs = {}

    def _sized(self, spec: TensorSpec, frames: int) -> tuple[int, ...]:
        return spec.sized(pool=frames, neighbours=self.manifest.neighbourhood_size)

    def submit(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Calls `function` in the owner thread, after whatever was submitted before. Raises `InferenceFailed`."""
        try:
            return self._owner.submit(function, *args, **kwargs)
        except RuntimeError as error:
            raise InferenceFailed("the network has been stopped") from error

    def run(self, graph: str, feeds: Mapping[str, NDArray[np.generic]]) -> list[_Array]:
        """A graph's outputs; for the owner thread only. `feeds` may hold more than the graph takes.

        Raises `OutOfMemory`, or `InferenceFailed`, and then has its sessions made anew: whatever went wrong in one
        stays in it.
        """
        try:
            outputs = self._graphs[graph].run(feeds)
        except MemoryError as error:
            raise OutOfMemory("there is no memory to run the network") from error
        except Exception as error:
            self._last_answer = -np.inf
            with suppress(Exception):  # the next run that fails tries again
                self._graphs = self._load(self._threads)
            raise InferenceFailed("the network could not be run") from error
        self._last_answer = time.monotonic()
        self.answers += 1
        return outputs

    def run_in_background(self, graph: str, feeds: Mapping[str, NDArray[np.generic]]) -> list[_Array]:
        """As `run`, for what no user waits for: users' runs go on beside it. Blocks; for any thread but the owner's.

        Raises `InferenceFailed` or `OutOfMemory`.
        """
        try:
            future = self._spare.submit(self._run_in_background, graph, feeds)
        except RuntimeError as error:
            raise InferenceFailed("the network has been stopped") from error
        return future.result()

    def _run_in_background(self, graph: str, feeds: Mapping[str, NDArray[np.generic]]) -> list[_Array]:
        try:
            self._background_graphs = self._background_graphs or self._load(1)
            return self._background_graphs[graph].run(feeds)
        except MemoryError as error:
            raise OutOfMemory("there is no memory to run the network") from error
        except Exception as error:
            self._background_graphs = {}
            raise InferenceFailed("the network could not be run") from error

    def positions(
        self, csi_known: _Array, positions_known: _Array, csi: _Array, coarse: _Array, accuracy: _Array
    ) -> _Array:
        """Where each CSI was measured, float32 `[b, 2]` metres; not finite where the network knows no answer.

        `csi_known` `[b, neighbours, antennas, subcarriers, 2]`, `positions_known` `[b, neighbours, 2]`, `csi`
        `[b, antennas, subcarriers, 2]`, `coarse` `[b, 2]` metres and `accuracy` `[b]`, its 1-sigma error on each axis
        in metres; all float32. Where there is no coarse position both are NaN. By the `full` graph, a neighbourhood
        each, `aside`. Raises `InferenceFailed`.
        """
        feeds = {"csi_known": csi_known, "positions_known": positions_known}
        located: _Array = self.run_in_background("full", feeds | as_users(csi, coarse, accuracy))[0][:, 0]
        return located

    def prove(self) -> None:
        """Runs a real inference on plane waves. Raises `InferenceFailed` unless the answer is a finite place."""
        known, users = self._waves(self.manifest.minimum_neighbours)
        self._checked(self.submit(self.run, "full", known | users).result())

    def prove_frame(self, slot: int) -> None:
        """Encodes plane waves into a slot and locates one of them by it.

        Raises `InferenceFailed` unless the `full` graph puts it there too.
        """
        known, users = self._waves(self.manifest.neighbourhood_size)
        slots = {"slots": np.array([slot])}
        self.submit(self.run, "frame", known | slots).result()
        at_once = self._checked(self.submit(self.run, "full", known | users).result())
        by_frame = self._checked(self.submit(self.run, "query", users | slots).result())
        if not np.allclose(at_once, by_frame, atol=_SAME_M):
            raise InferenceFailed("the network's answer by a frame is another one than at once")

    def _waves(self, n: int) -> tuple[dict[str, _Array], dict[str, _Array]]:
        """A neighbourhood of n plane waves, and one more as a user without a coarse position."""
        csi = self.manifest.csi
        waves = plane_waves(csi.antennas, csi.subcarriers, n + 1)[np.newaxis]
        places = np.linspace(-5, 5, 2 * n, dtype=np.float32).reshape(1, n, 2)
        nowhere = np.full((1, 2), np.nan, np.float32)
        return {"csi_known": waves[:, :n], "positions_known": places}, as_users(waves[:, n], nowhere, nowhere[:, 0])

    def _checked(self, outputs: list[_Array]) -> _Array:
        """The one place `[1, 1, 2]` that is expected."""
        if [output.shape for output in outputs] != [(1, 1, 2)] or not np.isfinite(outputs[0]).all():
            raise InferenceFailed("the network's answer is not finite, or of another shape")
        return outputs[0]

    @property
    def seconds_since_answer(self) -> float:
        """How long ago the last inference succeeded."""
        return time.monotonic() - self._last_answer

    def close(self) -> None:
        for executor in (self._owner, self._spare):
            executor.shutdown(wait=True, cancel_futures=True)

    def _load(self, threads: int) -> dict[str, BoundGraph]:
        return load_graphs(self._artifact, threads, self.providers, self._pools)


def as_users(csi: _Array, coarse: _Array, accuracy: _Array) -> dict[str, _Array]:
    """What the graphs take of users `[b, ...]`, one a neighbourhood: NaN, for no coarse position, as they know it."""
    known: NDArray[np.bool_] = np.isfinite(accuracy)
    return {
        "csi": csi[:, np.newaxis],
        "coarse": np.where(known[:, np.newaxis], coarse, np.float32(0))[:, np.newaxis],
        "accuracy": np.where(known, accuracy, np.float32(np.inf))[:, np.newaxis],
    }


def plane_waves(antennas: int, subcarriers: int, n: int) -> _Array:
    """n plane waves of different direction and delay, float32 `[n, antennas, subcarriers, 2]`."""
    step = np.linspace(0.1, 1.3, n)[:, np.newaxis, np.newaxis]
    phase = step * np.arange(antennas)[:, np.newaxis] - 0.3 * step * np.arange(subcarriers)
    return np.stack([np.cos(phase), np.sin(phase)], axis=-1).astype(np.float32)
