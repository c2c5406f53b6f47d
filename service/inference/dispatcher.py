"""Continuous batching: as soon as the model is free, the next dispatch takes the users that wait."""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from service.errors import Congested, OutOfMemory, ServiceError, TooLate
from service.inference.admission import LANES, Admission, Lane
from service.telemetry.stopwatch import Stopwatch

U = TypeVar("U")
A = TypeVar("A")
U_contra = TypeVar("U_contra", contravariant=True)
A_co = TypeVar("A_co", covariant=True)

_MOST_SINGLE = 16  # single users a dispatch: more would delay the users who arrive during it
_BATCH_SHARE = 0.25  # smallest share of a dispatch for batches that wait


class Estimates(Protocol[U_contra, A_co]):
    def locate(self, users: Sequence[U_contra], stopwatch: Stopwatch) -> Sequence[A_co | ServiceError]:
        """Returns the answer of each user, or why there is none. Called in the owner thread."""


class Owner(Protocol):
    def submit(self, function: Callable[[], None]) -> object:
        """Calls `function` in the owner thread. Raises `InferenceFailed` when that thread has stopped."""


class Counts(Protocol):
    def dispatched(self, stopwatch: Stopwatch, waits: list[float], full: bool) -> None:
        """Counts a dispatch: seconds of each stage, seconds each user waited, whether users were left waiting."""


class _Waiting(NamedTuple, Generic[U, A]):
    user: U
    since: float  # time.monotonic
    deadline: float
    answer: "asyncio.Future[A]"


class Dispatcher(Generic[U, A]):
    """A bounded queue between the event loop and a session's owner thread; no timer, no fixed batch size.

    Single requests do not wait behind batches, and batches get at least a quarter of each dispatch. Users whose
    request is cancelled or past its deadline leave the queue without reaching the model. So do users of a burst that
    turns out to last: they were admitted when users could wait longer.
    """

    def __init__(
        self, estimator: Estimates[U, A], session: Owner, most_users: int, admission: Admission, metrics: Counts
    ) -> None:
        self._estimator = estimator
        self._session = session
        self._most_users = most_users
        self._admission = admission
        self._metrics = metrics
        self._waiting: dict[Lane, deque[_Waiting[U, A]]] = {lane: deque() for lane in LANES}
        self._lock = threading.Lock()
        self._busy = False  # a dispatch runs or has been submitted
        self._taken_at = -math.inf  # time.monotonic, when the users of the last dispatch were taken

    def waiting(self, lane: Lane) -> int:
        """How many users wait in a lane."""
        return len(self._waiting[lane])

    @property
    def is_idle(self) -> bool:
        """Whether no user waits or is being located."""
        return not self._busy

    def check_room(self, lane: Lane) -> None:
        """Raises `Congested` when the lane accepts no more users."""
        try:
            waited = time.monotonic() - self._waiting[lane][0].since
        except IndexError:  # empty; a check of the length would race with the owner thread
            waited = 0.0
        ahead = len(self._waiting["single"]) + (len(self._waiting["batch"]) if lane == "batch" else 0)
        self._admission.check(lane, waited, ahead)

    def locate(self, user: U, deadline: float, lane: Lane) -> "asyncio.Future[A]":
        """Queues a user and returns a future of the answer.

        For the event loop's thread. `deadline` is a time of `time.monotonic`. The future may be cancelled; it raises
        `TooLate`, or what the estimator's `locate` raises. Raises what the session's `submit` raises.
        """
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting[lane].append(_Waiting(user, time.monotonic(), deadline, answer))
        with self._lock:
            idle, self._busy = not self._busy, True
        if idle:
            self._admission.start_busy_period()
            try:
                self._session.submit(self._dispatch)
            except Exception:  # on any error the next user tries again
                self._waiting[lane].pop()
                self._busy = False
                raise
        return answer

    def _dispatch(self) -> None:
        """Runs one dispatch in the owner thread, then queues the next behind other submitted calls."""
        try:
            batch, refused = self._take()
            self._settle([waiting for waiting, _ in refused], [error for _, error in refused])
            self._settle(batch, self._locate(batch))
        finally:
            with self._lock:
                self._busy = any(self._waiting.values())
            if self._busy:
                self._session.submit(self._dispatch)

    def _take(self) -> tuple[list[_Waiting[U, A]], list[tuple[_Waiting[U, A], ServiceError]]]:
        """Takes the users of the next dispatch, and the users who have waited too long, each with the reason."""
        refused: list[tuple[_Waiting[U, A], ServiceError]] = []
        most = self._admission.dispatch_size(self._most_users)
        kept = min(len(self._waiting["batch"]), int(_BATCH_SHARE * most))
        # Compared with the last dispatch, not with now: one that takes long must not refuse those who wait for it.
        earliest = self._taken_at - self._admission.longest_single_wait
        batch = self._take_from("single", min(most - kept, _MOST_SINGLE), earliest, refused)
        batch += self._take_from("batch", most - len(batch), -math.inf, refused)
        self._taken_at = time.monotonic()
        return batch, refused

    def _take_from(
        self, lane: Lane, most: int, earliest: float, refused: list[tuple[_Waiting[U, A], ServiceError]]
    ) -> list[_Waiting[U, A]]:
        """Takes users who have waited since `earliest` at most."""
        queue, taken, now = self._waiting[lane], list[_Waiting[U, A]](), time.monotonic()
        while queue and len(taken) < most:
            waiting = queue.popleft()
            if waiting.answer.cancelled():
                continue
            if now >= waiting.deadline:
                refused.append((waiting, TooLate("maxRespTime has passed")))
            elif waiting.since < earliest:
                refused.append((waiting, Congested("too many users are waiting; try again later")))
            else:
                taken.append(waiting)
        return taken

    def _locate(self, batch: list[_Waiting[U, A]]) -> list[A | Exception]:
        if not batch:
            return []
        started, stopwatch, full = time.monotonic(), Stopwatch(), any(self._waiting.values())
        try:
            answers = self._estimator.locate([waiting.user for waiting in batch], stopwatch)
            encoding = stopwatch.seconds.get("frame", 0.0)
            self._admission.record_dispatch(len(batch), time.monotonic() - started, encoding)
            self._metrics.dispatched(stopwatch, [started - waiting.since for waiting in batch], full)
            return list(answers)
        except (MemoryError, OutOfMemory) as error:
            if len(batch) == 1:
                return [error]
        except Exception as error:  # any error: every user that waits must get it
            return [error] * len(batch)
        half = len(batch) // 2  # half the users need less memory
        return self._locate(batch[:half]) + self._locate(batch[half:])

    def _settle(self, batch: list[_Waiting[U, A]], answers: Sequence[A | Exception]) -> None:
        if batch:
            loop = batch[0].answer.get_loop()
            loop.call_soon_threadsafe(_set_answers, [waiting.answer for waiting in batch], answers)


def _set_answers(futures: "list[asyncio.Future[A]]", answers: Sequence[A | Exception]) -> None:
    for future, answer in zip(futures, answers, strict=True):
        if future.done():  # cancelled meanwhile
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
