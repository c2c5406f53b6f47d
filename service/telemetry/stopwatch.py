"""Measures the time that a request spends in each stage."""

import time
from types import TracebackType
from typing import Literal

# Also the values of the label "stage" of fingerpost_stage_duration_seconds, which dashboards query.
Stage = Literal["decode", "retrieve", "describe", "frame", "infer", "cues", "joint", "measure", "fuse", "encode"]


class Stopwatch:
    """Seconds spent in each stage, summed over repeated visits."""

    def __init__(self) -> None:
        self.seconds: dict[Stage, float] = {}

    def stage(self, stage: Stage) -> "_Lap":
        """Returns a context manager that adds the time spent inside to the stage."""
        return _Lap(self.seconds, stage)


class _Lap:
    # A generator under `contextmanager` takes three times as long, and each location measures five stages.
    __slots__ = ("_seconds", "_stage", "_start")

    def __init__(self, seconds: dict[Stage, float], stage: Stage) -> None:
        self._seconds = seconds
        self._stage = stage

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + time.perf_counter() - self._start
