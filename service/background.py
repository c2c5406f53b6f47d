"""Work in the background: one supervisor repeats every job of the service, and notices the jobs that fail or hang."""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple, ParamSpec, TypeVar

from reference_db.errors import ReferenceDatabaseError
from service.errors import ServiceError
from service.telemetry.background_metrics import BackgroundMetrics

_log = logging.getLogger("fingerpost.background")

_FIRST_PAUSE_S = 0.05  # after the first failure of a job without pauses
_LONGEST_PAUSE_S = 5.0  # after failures, unless the job's own period is longer
_REPEATED_S = 60.0  # an unchanged failure is logged again after this time
_STOPPED_S = 1.0  # how long `stop` waits for rounds to notice that they are cancelled

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")


class Job(NamedTuple):
    """Work that is repeated as long as the service runs.

    `run` does one round, and the next round begins `period_s` after its end. A round that takes longer than `timeout_s`
    is cancelled and has failed. Readiness fails while the last success is older than `unsafe_after_s`. The first round
    begins at once, or after the first period.
    """

    name: str
    run: Callable[[], Awaitable[None]]
    period_s: float
    unsafe_after_s: float | None = None
    timeout_s: float = 30.0
    starts_at_once: bool = True


class JobFailed(Exception):
    """A failure that the job foresaw: the supervisor logs the text and no traceback."""


class BlockingCalls:
    """Calls blocking functions, one at a time, in daemon threads.

    A call that never returns costs one thread, and this thread does not keep the process from ending.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._blocked = False

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls `function` in a thread. Raises what it raises, and `JobFailed` while an earlier call has not returned.

        A cancelled call goes on in its thread; its result is dropped.
        """
        if self._blocked:
            raise JobFailed("an earlier call has not returned yet")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def call() -> None:
            try:
                deliver = partial(self._deliver, future, future.set_result, function(*args, **kwargs))
            except BaseException as error:  # handed to the caller
                deliver = partial(self._deliver, future, future.set_exception, error)
            with suppress(RuntimeError):  # the loop is closed: no task waits any more
                loop.call_soon_threadsafe(deliver)

        threading.Thread(target=call, name=f"background-{self._name}", daemon=True).start()
        self._blocked = True
        return await future

    def _deliver(self, future: "asyncio.Future[T]", settle: Callable[[U], None], value: U) -> None:
        self._blocked = False
        if not future.done():
            settle(value)


class Background:
    """Supervises jobs: logs each failure, tries again with growing pauses, counts failures, and knows the age of the
    last success. For the event loop's thread.
    """

    def __init__(self, metrics: BackgroundMetrics, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns seconds."""
        self._metrics = metrics
        self._clock = clock
        self._supervised: dict[str, _Supervised] = {}

    def start(self, job: Job) -> None:
        """Repeats a job until `stop`. Names are unique."""
        if job.name in self._supervised:
            raise ValueError(f"there is a job {job.name!r} already")
        one = self._supervised[job.name] = _Supervised(job, self._clock())
        one.task = asyncio.create_task(self._repeat(one), name=f"background {job.name}")
        self._metrics.watch(job.name, job.period_s, partial(self._age, one))

    def find_unsafe(self) -> str | None:
        """Says which job has not succeeded for so long that the service should not serve on; None where all is well."""
        for name, one in self._supervised.items():
            limit = one.job.unsafe_after_s
            if limit is not None and (age := self._age(one)) > limit:
                return f"the task {name!r} has not succeeded for {age:.0f} s"
        return None

    async def stop(self) -> None:
        """Cancels all jobs. Threads of `BlockingCalls` go on; they do not keep the process from ending."""
        tasks = [one.task for one in self._supervised.values() if one.task is not None]
        self._supervised.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_STOPPED_S)

    def _age(self, one: "_Supervised") -> float:
        return self._clock() - one.succeeded_at

    async def _repeat(self, one: "_Supervised") -> None:
        job, failures = one.job, _Failures(one.job.name)
        if not job.starts_at_once:
            await asyncio.sleep(job.period_s)
        while True:
            try:
                await _run_round(job)
            except Exception as error:
                self._metrics.failed(job.name)
                failures.log(error, self._clock())
                await asyncio.sleep(_pause_after(failures.count, job.period_s))
            else:
                one.succeeded_at = self._clock()
                failures.end()
                await asyncio.sleep(job.period_s)


class _Supervised:
    def __init__(self, job: Job, now: float) -> None:
        self.job = job
        self.succeeded_at = now  # at first the start
        self.task: asyncio.Task[None] | None = None


class _Failures:
    """The failures of a job since its last success. An unchanged failure is not logged every time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._logged = ""
        self._logged_at = 0.0
        self.count = 0

    def log(self, error: Exception, now: float) -> None:
        self.count += 1
        text = repr(error)
        if text == self._logged and now - self._logged_at < _REPEATED_S:
            return
        self._logged, self._logged_at = text, now
        if isinstance(error, JobFailed | ServiceError | ReferenceDatabaseError):
            _log.warning("%s: %s", self._name, error)
        else:
            _log.error("%s: failed, and is tried again", self._name, exc_info=error)

    def end(self) -> None:
        if self.count:
            _log.info("%s: works again after %d failures", self._name, self.count)
        self._logged, self.count = "", 0


async def _run_round(job: Job) -> None:
    try:
        async with asyncio.timeout(job.timeout_s) as limit:
            await job.run()
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise JobFailed(f"a round took longer than {job.timeout_s:g} s") from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # The job awaited something that was cancelled. The job itself must go on.
        raise JobFailed("a round was cancelled from within") from error


def _pause_after(failures: int, period_s: float) -> float:
    """Doubles with each failure, from one second or the period."""
    first = min(period_s, 1.0) or _FIRST_PAUSE_S
    return min(first * 2.0 ** min(failures - 1, 30), max(period_s, _LONGEST_PAUSE_S))
