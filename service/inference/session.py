"""What every model family shares when ONNX Runtime runs its artifact: sessions, threads, errors, warm-up."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Generic, Self, TypeVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.artifact import LwlmArtifact, MateformerArtifact, TrajectoryArtifact
from service.errors import InferenceFailed, OutOfMemory
from service.inference.bound_graph import BoundGraph, load_graphs
from service.inference.owner_thread import OwnerThread
from service.inference.workers import lower_thread_priority

A = TypeVar("A", MateformerArtifact, TrajectoryArtifact, LwlmArtifact)
_Array = NDArray[np.float32]
_T = TypeVar("_T")


class ModelUnusable(Exception):
    """The model of an artifact does not load, or does not answer a test request with finite numbers."""

    @classmethod
    def of(cls, directory: Path, error: Exception) -> Self:
        """Names the artifact's directory and the cause, which may be ONNX Runtime's own message."""
        if not isinstance(error, InferenceFailed):
            return cls(f"{directory}: {type(error).__name__}: {error}")
        return cls(f"{directory}: {error}" + ("" if error.__cause__ is None else f": {error.__cause__}"))


class ModelSession(OwnerThread, ABC, Generic[A]):
    """The graphs of an artifact. Its owner thread, or a thread that takes its place, runs them for users.

    `run_in_background` uses sessions and a thread of its own, at a lower priority: users do not wait for it.

    Raises `ModelUnusable` when a provider is missing or when `prove` fails on the first of `providers`.
    """

    def __init__(self, artifact: A, threads: int, providers: Sequence[str]) -> None:
        self.artifact: A = artifact
        self.providers = list(providers)
        self.answers = 0  # successful runs of any graph for users
        self._threads = threads
        self._pools: dict[str, ort.OrtValue] = {}  # bound to every graph that takes them
        self._left_out: set[str] = set()  # graphs of the artifact that are not loaded
        self._last_answer = -np.inf
        available = ort.get_available_providers()
        if missing := set(providers) - set(available):
            raise ModelUnusable(
                f"this ONNX Runtime has no {', '.join(sorted(missing))}, only {', '.join(available)}; for CUDA install "
                "fingerpost[gpu], else set FINGERPOST_EXECUTION_PROVIDERS=CPUExecutionProvider"
            )
        try:
            self._graphs = self._load(threads)
        except Exception as error:  # ONNX Runtime raises many undocumented types
            raise ModelUnusable.of(artifact.directory, error) from error
        self._background_graphs: dict[str, BoundGraph] = {}  # loaded at their first use
        family = artifact.manifest.family
        super().__init__(family, "the model has been stopped")
        self._background = ThreadPoolExecutor(
            1, thread_name_prefix=f"{family}-background", initializer=lower_thread_priority
        )
        try:
            self.prove()
        except (InferenceFailed, OutOfMemory) as error:
            self.close()
            raise ModelUnusable.of(artifact.directory, error) from error

    @abstractmethod
    def prove(self) -> None:
        """Locates plane waves in the owner thread. Raises `InferenceFailed` unless the answer is finite."""

    def run(self, graph: str, feeds: Mapping[str, NDArray[np.generic]]) -> dict[str, _Array]:
        """Runs a graph and returns its outputs by name, without pools.

        For the owner thread only. `feeds` may hold extra names. Raises `OutOfMemory` or `InferenceFailed`. After
        `InferenceFailed` the sessions are new: a session that has failed may go on failing.
        """
        return self._guard(lambda: self._graphs[graph].run(feeds))

    def _guard(self, work: Callable[[], _T]) -> _T:
        """Does what `run` says of errors for any work that runs graphs."""
        try:
            result = work()
        except MemoryError as error:
            raise OutOfMemory("not enough memory to run the model") from error
        except Exception as error:
            self._last_answer = -np.inf
            with suppress(Exception):  # the next run that fails tries again
                self._graphs = self._load(self._threads)
            raise InferenceFailed("the model failed to run") from error
        self._last_answer = time.monotonic()
        self.answers += 1
        return result

    def run_in_background(self, graph: str, feeds: Mapping[str, NDArray[np.generic]]) -> dict[str, _Array]:
        """As `run`, on the background session. Blocking. For any thread but the owner thread.

        Raises `InferenceFailed` or `OutOfMemory`.
        """
        try:
            running = self._background.submit(self._run_in_background, graph, feeds)
        except RuntimeError as error:
            raise InferenceFailed("the model has been stopped") from error
        return running.result()

    def _run_in_background(self, graph: str, feeds: Mapping[str, NDArray[np.generic]]) -> dict[str, _Array]:
        try:
            self._background_graphs = self._background_graphs or self._load(1)
            return self._background_graphs[graph].run(feeds)
        except MemoryError as error:
            raise OutOfMemory("not enough memory to run the model") from error
        except Exception as error:
            self._background_graphs = {}
            raise InferenceFailed("the model failed to run") from error

    @property
    def seconds_since_answer(self) -> float:
        """Seconds since the last successful run for users; infinite when the last run failed."""
        return time.monotonic() - self._last_answer

    def close(self) -> None:
        """Cancels calls that have not started, and waits for those that run."""
        super().close()
        self._background.shutdown(wait=True, cancel_futures=True)

    def _load(self, threads: int) -> dict[str, BoundGraph]:
        return load_graphs(self.artifact, threads, self.providers, self._pools, self._left_out)


def plane_waves(antennas: int, subcarriers: int, n: int, spread: float = 1.2) -> _Array:
    """Returns n plane waves of different direction and delay, float32 `[n, antennas, subcarriers, 2]`.

    `spread`: radians by which the phase steps between neighbouring antennas differ.
    """
    step = np.linspace(0.1, 0.1 + spread, n)[:, np.newaxis, np.newaxis]
    phase = step * np.arange(antennas)[:, np.newaxis] - 0.3 * step * np.arange(subcarriers)
    return np.stack([np.cos(phase), np.sin(phase)], axis=-1).astype(np.float32)
