"""Jobs that fail, hang, or wait for what never answers."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from service.background import Background, BlockingCalls, Job, JobFailed
from service.telemetry.metrics import Metrics

PATIENCE_S = 60.0

pytestmark = pytest.mark.anyio


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def background(metrics: Metrics, clock: Clock) -> AsyncIterator[Background]:
    background = Background(metrics.background, clock)
    yield background
    await background.stop()


def metric(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(f"fingerpost_background_{name}", {"task": "news"})


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not done():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("error", [KeyError("cell"), JobFailed("stalled"), asyncio.CancelledError(), TimeoutError()])
async def test_a_job_goes_on_after_any_failure_which_is_logged_and_counted(
    background: Background, metrics: Metrics, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    rounds = 0

    async def run() -> None:
        nonlocal rounds
        rounds += 1
        if rounds <= 2:
            raise error

    caplog.set_level(logging.INFO, "fingerpost.background")
    background.start(Job("news", run, 0.001))
    await until(lambda: rounds > 3)
    assert metric(metrics, "failures_total") == 2
    first, *_, last = caplog.records
    assert first.getMessage().startswith("news: ")
    assert (first.exc_info is not None) == isinstance(error, KeyError | TimeoutError)
    assert last.getMessage() == "news: works again after 2 failures"
    assert len(caplog.records) == 2  # the same failure is not logged twice


async def test_the_age_of_the_last_success_is_told_and_makes_an_unsafe_service_unready(
    background: Background, metrics: Metrics, clock: Clock
) -> None:
    healthy, rounds = True, 0

    async def run() -> None:
        nonlocal rounds
        rounds += 1
        if not healthy:
            raise JobFailed("stalled")

    background.start(Job("news", run, 0.001, unsafe_after_s=60))
    await until(lambda: rounds > 1)
    healthy, clock.now = False, clock.now + 50
    assert background.find_unsafe() is None
    seen = rounds
    await until(lambda: rounds > seen + 1)
    clock.now += 50
    assert metric(metrics, "age_seconds") in (50, 100)  # a last healthy round may have been under way
    clock.now += 50
    assert background.find_unsafe() is not None
    healthy = True
    await until(lambda: background.find_unsafe() is None)


async def test_a_round_that_hangs_is_given_up(background: Background, metrics: Metrics) -> None:
    rounds = 0

    async def run() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            await asyncio.Event().wait()

    background.start(Job("news", run, 0.001, timeout_s=0.01))
    await until(lambda: rounds > 1)
    assert metric(metrics, "failures_total") == 1


async def test_a_job_that_must_not_start_at_once_waits_for_its_period(background: Background) -> None:
    begun: list[str] = []

    async def note(name: str) -> None:
        begun.append(name)

    background.start(Job("later", lambda: note("later"), 0.05, starts_at_once=False))
    background.start(Job("now", lambda: note("now"), 3600))
    await until(lambda: "later" in begun)
    assert begun[0] == "now"


async def test_a_call_that_blocks_holds_one_daemon_thread_and_the_next_calls_fail_at_once() -> None:
    calls, release, running = BlockingCalls("stalled"), threading.Event(), threading.active_count()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await calls.run(release.wait)
    for _ in range(3):
        with pytest.raises(JobFailed, match="has not returned"):
            await calls.run(int)
    (thread,) = [one for one in threading.enumerate() if one.name == "background-stalled"]
    assert (thread.daemon, threading.active_count()) == (True, running + 1)
    release.set()
    await asyncio.to_thread(thread.join)
    assert await calls.run(int, "7") == 7
    with pytest.raises(ZeroDivisionError):
        await calls.run(divmod, 1, 0)


async def test_pauses_grow_with_failures_up_to_a_limit(background: Background, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    async def fail() -> None:
        raise JobFailed("stalled")

    monkeypatch.setattr(asyncio, "sleep", note)
    background.start(Job("news", fail, 1))
    while len(pauses) < 5:
        await sleep(0)
    assert pauses[:5] == [1, 2, 4, 5, 5]
