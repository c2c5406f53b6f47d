"""Continuous batching: as soon as the model is free, the next dispatch takes the users that wait."""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from service.errors import Congested, OutOfMemory, ServiceError, TooLate
from service.inference.admission import LANES, Admission, Lane
from service.inference.owner_thread import OwnerThread
from service.inference.steps import Steps, run_to_end
from service.telemetry.stopwatch import Stopwatch

_log = logging.getLogger("fingerpost.models")

U = TypeVar("U")
A = TypeVar("A")
U_contra = TypeVar("U_contra", contravariant=True)
A_co = TypeVar("A_co", covariant=True)

_MOST_SINGLE = 16  # single users a dispatch: more would delay the users who arrive during it
_BATCH_SHARE = 0.25  # smallest share of a dispatch for batches that wait


class Locate(Protocol[U_contra, A_co]):
    def __call__(self, users: Sequence[U_contra], stopwatch: Stopwatch) -> Steps[Sequence[A_co | ServiceError]]:
        """Locates users in steps; returns the answer of each, or why there is none. For the owner thread."""


class Counts(Protocol):
    def dispatched(self, stopwatch: Stopwatch, waits: list[float], full: bool) -> None:
        """Counts a dispatch: seconds of each stage, seconds each user waited, whether users were left waiting."""


class _Waiting(NamedTuple, Generic[U, A]):
    user: U
    since: float  # time.monotonic
    deadline: float
    answer: "asyncio.Future[A]"


class _Run(NamedTuple, Generic[U, A]):
    """A dispatch. `full`: users were left waiting."""

    batch: list[_Waiting[U, A]]
    steps: Steps[Sequence[A | ServiceError]]
    stopwatch: Stopwatch
    started: float  # time.monotonic
    full: bool


class Dispatcher(Generic[U, A]):
    """A bounded queue between the event loop and a session's owner thread; no timer, no fixed batch size.

    The event loop's thread takes the place of the owner thread for the first step of a dispatch, which is all of it
    where few users are located quickly: two busy threads would wait longer for Python's lock than such a run takes.

    Single requests do not wait behind batches, and batches get at least a quarter of each dispatch. Users whose
    request is cancelled or past its deadline leave the queue without reaching the model. So do users of a burst that
    turns out to last: they were admitted when users could wait longer.
    """

    def __init__(
        self, locate: Locate[U, A], owner: OwnerThread, most_users: int, admission: Admission, metrics: Counts
    ) -> None:
        self._locate = locate
        self._owner = owner
        self._most_users = most_users
        self._admission = admission
        self._metrics = metrics
        self._waiting: dict[Lane, deque[_Waiting[U, A]]] = {lane: deque() for lane in LANES}
        self._busy = False  # a dispatch runs or is to begin
        self._taken_at = -math.inf  # time.monotonic, when the users of the last dispatch were taken

    def waiting(self, lane: Lane) -> int:
        """How many users wait in a lane."""
        return len(self._waiting[lane])

    def note_overload(self) -> None:
        """A single user was refused for lasting load before `check_room` was asked."""
        self._admission.note_overload()

    @property
    def room(self) -> int:
        """How many more single users may wait under lasting load. For the event loop's thread."""
        return self._admission.most_single - len(self._waiting["single"])

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
        `TooLate`, `Congested`, what `locate` raised, or `InferenceFailed` when the owner thread has stopped.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[A] = loop.create_future()
        self._waiting[lane].append(_Waiting(user, time.monotonic(), deadline, answer))
        if not self._busy:
            self._busy = True
            self._admission.start_busy_period()
            loop.call_soon(self._begin, loop)  # not at once: the other users of a batch come first
        return answer

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begins a dispatch in the event loop's thread, or lets the owner thread begin it where that is at work."""
        try:
            if not self._owner.take():
                self._owner.submit(self._dispatch, loop)
                return
        except Exception as error:  # on any error everyone who waits must get it, and the next user tries again
            for queue in self._waiting.values():
                _set_answers(queue, [error] * len(queue))
                queue.clear()
            self._busy = False
            return
        answered = True
        try:
            answered = self._locate_here(loop)
        except Exception:  # on any error the users wait for the loop's next turn
            _log.exception("a dispatch could not begin")
        finally:
            self._owner.give_back()
        if answered:
            self._go_on(loop)

    def _locate_here(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Answers the users of one dispatch if that takes one step; else returns False, and the owner thread will."""
        batch, refused = self._take()
        _set_answers([waiting for waiting, _ in refused], [error for _, error in refused])
        if not batch:
            return True
        answers: Sequence[A | Exception]
        try:
            run = self._start(batch)
            try:
                next(run.steps)
            except (MemoryError, OutOfMemory):
                run = self._start(batch)  # the owner thread tries again, with fewer users if it must
            self._owner.submit(self._finish, run, loop)
            return False
        except StopIteration as end:
            answers = end.value
            try:
                self._record(run)
            except Exception as error:
                answers = [error] * len(batch)
        except Exception as error:  # any error: every user that waits must get it
            answers = [error] * len(batch)
        _set_answers(batch, answers)
        return True

    def _dispatch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Runs one dispatch in the owner thread."""
        batch, refused = list[_Waiting[U, A]](), list[tuple[_Waiting[U, A], ServiceError]]()
        answers: list[A | Exception] = []
        try:
            batch, refused = self._take()
            answers = self._run_to_end(self._start(batch)) if batch else []
        except Exception as error:  # any error: every user that was taken must get it
            answers = [error] * len(batch)
        finally:
            everyone = [*batch, *(waiting for waiting, _ in refused)]
            loop.call_soon_threadsafe(self._end, everyone, [*answers, *(error for _, error in refused)], loop)

    def _finish(self, run: _Run[U, A], loop: asyncio.AbstractEventLoop) -> None:
        """Finishes a dispatch in the owner thread."""
        loop.call_soon_threadsafe(self._end, run.batch, self._run_to_end(run), loop)

    def _end(
        self, batch: Sequence[_Waiting[U, A]], answers: Sequence[A | Exception], loop: asyncio.AbstractEventLoop
    ) -> None:
        """Ends a dispatch that the owner thread has run."""
        _set_answers(batch, answers)
        self._go_on(loop)

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        self._busy = any(self._waiting.values())
        if self._busy:
            loop.call_soon(self._begin, loop)

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

    def _start(self, batch: list[_Waiting[U, A]]) -> _Run[U, A]:
        stopwatch = Stopwatch()
        steps = self._locate([waiting.user for waiting in batch], stopwatch)
        return _Run(batch, steps, stopwatch, time.monotonic(), any(self._waiting.values()))

    def _run_to_end(self, run: _Run[U, A]) -> list[A | Exception]:
        try:
            answers = run_to_end(run.steps)
            self._record(run)
            return [*answers]
        except (MemoryError, OutOfMemory) as error:
            if len(run.batch) == 1:
                return [error]
        except Exception as error:  # any error: every user that waits must get it
            return [error] * len(run.batch)
        half = len(run.batch) // 2  # half the users need less memory
        first, second = (self._run_to_end(self._start(some)) for some in (run.batch[:half], run.batch[half:]))
        return first + second

    def _record(self, run: _Run[U, A]) -> None:
        encoding = run.stopwatch.seconds.get("frame", 0.0)
        self._admission.record_dispatch(len(run.batch), time.monotonic() - run.started, encoding)
        self._metrics.dispatched(run.stopwatch, [run.started - waiting.since for waiting in run.batch], run.full)


def _set_answers(batch: Sequence[_Waiting[U, A]], answers: Sequence[A | Exception]) -> None:
    for waiting, answer in zip(batch, answers, strict=True):
        if waiting.answer.done():  # cancelled meanwhile
            continue
        if isinstance(answer, Exception):
            waiting.answer.set_exception(answer)
        else:
            waiting.answer.set_result(answer)
