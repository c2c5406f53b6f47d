"""Continuous batching: as soon as the network is free, it takes whoever is waiting."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.errors import InferenceFailed, OutOfMemory, TooLate
from service.inference.admission import Admission, Lane
from service.telemetry.metrics import Stopwatch

Position = NDArray[np.float32]  # metres: [2] of a user, [vertices + 1, 2] of a trajectory

U = TypeVar("U")
U_contra = TypeVar("U_contra", contravariant=True)

_MOST_SINGLE = 16  # single users in a dispatch: more would let those who come meanwhile wait long
_BATCH_SHARE = 0.25  # of a dispatch, at least, where batches wait


class Estimates(Protocol[U_contra]):
    def locate(self, users: Sequence[U_contra], stopwatch: Stopwatch) -> NDArray[np.float32]:
        """A position for each, in the owner thread."""


class Owner(Protocol):
    def submit(self, function: Callable[[], None]) -> object:
        """Calls `function` in the owner thread. Raises `InferenceFailed` where there is none any more."""


class Counts(Protocol):
    def dispatched(self, stopwatch: Stopwatch, waits: list[float], full: bool) -> None:
        """Counts a dispatch: the seconds of each stage, those that each of its users had waited, if others still do."""


class _Waiting(NamedTuple, Generic[U]):
    user: U
    since: float  # time.monotonic
    deadline: float
    answer: "asyncio.Future[Position]"


class Dispatcher(Generic[U]):
    """A bounded queue between the event loop and a network's owner thread; no timer, no fixed batch.

    Single requests do not wait behind batches, and batches get a quarter of a dispatch whatever happens. Users whose
    request is given up, or past its deadline, leave the queue without ever reaching the network.
    """

    def __init__(
        self, estimator: Estimates[U], network: Owner, most_users: int, admission: Admission, metrics: Counts
    ) -> None:
        self._estimator = estimator
        self._network = network
        self._most_users = most_users
        self._admission = admission
        self._metrics = metrics
        self._waiting: dict[Lane, deque[_Waiting[U]]] = {"single": deque(), "batch": deque()}
        self._lock = threading.Lock()
        self._busy = False  # a dispatch is running or on its way

    def waiting(self, lane: Lane) -> int:
        """How many users wait in a lane."""
        return len(self._waiting[lane])

    def check_room(self, lane: Lane) -> None:
        """Raises `Congested` where nobody else should join the queue now."""
        try:
            waited = time.monotonic() - self._waiting[lane][0].since
        except IndexError:  # nobody; the network may take the last one at any time
            waited = 0.0
        ahead = len(self._waiting["single"]) + (len(self._waiting["batch"]) if lane == "batch" else 0)
        self._admission.check(lane, waited, ahead)

    def locate(self, user: U, deadline: float, lane: Lane) -> "asyncio.Future[Position]":
        """Where the user is, once the network has found out; NaN where it cannot. For the event loop's thread.

        `deadline` is a moment of `time.monotonic`. The future may be cancelled; it raises `TooLate`, or what
        `Estimator.locate` raises. Raises `InferenceFailed` when the network has been stopped.
        """
        answer: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        self._waiting[lane].append(_Waiting(user, time.monotonic(), deadline, answer))
        with self._lock:
            idle, self._busy = not self._busy, True
        if idle:
            self._admission.begins()
            try:
                self._network.submit(self._dispatch)
            except InferenceFailed:
                self._busy = False
                raise
        return answer

    def _dispatch(self) -> None:
        """In the owner thread: one batch; then makes way for whatever else was submitted, and comes again."""
        batch, late = self._take()
        try:
            if late or batch:
                self._settle(late, [TooLate("maxRespTime has passed")] * len(late))
                self._settle(batch, self._located(batch))
        finally:
            with self._lock:
                self._busy = any(self._waiting.values())
            if self._busy:
                self._network.submit(self._dispatch)

    def _take(self) -> tuple[list[_Waiting[U]], list[_Waiting[U]]]:
        """Whom to locate now, and for whom it is too late: single requests first, but a share for batches."""
        late: list[_Waiting[U]] = []
        most = self._admission.share(self._most_users)
        kept = min(len(self._waiting["batch"]), int(_BATCH_SHARE * most))
        batch = self._take_from("single", min(most - kept, _MOST_SINGLE), late)
        return batch + self._take_from("batch", most - len(batch), late), late

    def _take_from(self, lane: Lane, most: int, late: list[_Waiting[U]]) -> list[_Waiting[U]]:
        queue, taken, now = self._waiting[lane], list[_Waiting[U]](), time.monotonic()
        while queue and len(taken) < most:
            one = queue.popleft()
            if not one.answer.cancelled():
                (taken if now < one.deadline else late).append(one)
        return taken

    def _located(self, batch: list[_Waiting[U]]) -> list[Position | Exception]:
        if not batch:
            return []
        started, stopwatch, full = time.monotonic(), Stopwatch(), any(self._waiting.values())
        positions = None
        try:
            positions = self._estimator.locate([one.user for one in batch], stopwatch)
        except (MemoryError, OutOfMemory) as error:
            if len(batch) == 1:
                return [error]
        except Exception as error:  # whatever it is, everybody waiting must hear of it
            return [error] * len(batch)
        if positions is None:  # for fewer at once there may be memory
            half = len(batch) // 2
            return self._located(batch[:half]) + self._located(batch[half:])
        self._admission.located(len(batch), time.monotonic() - started, stopwatch.seconds.get("frame", 0.0))
        self._metrics.dispatched(stopwatch, [started - one.since for one in batch], full)
        return list(positions)

    def _settle(self, batch: list[_Waiting[U]], answers: Sequence[Position | Exception]) -> None:
        if batch:
            loop = batch[0].answer.get_loop()
            loop.call_soon_threadsafe(_answer, [one.answer for one in batch], answers)


def _answer(futures: "list[asyncio.Future[Position]]", answers: Sequence[Position | Exception]) -> None:
    for future, answer in zip(futures, answers, strict=True):
        if future.done():  # given up meanwhile
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
