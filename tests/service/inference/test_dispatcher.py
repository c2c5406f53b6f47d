"""The queue in front of a real session, blocked where a test needs a full queue."""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from service.errors import Congested, InferenceFailed, TooLate
from service.inference.admission import Admission
from service.inference.dispatcher import Dispatcher
from service.inference.estimator import Estimator
from service.inference.mateformer_session import MateformerSession
from service.inference.steps import Steps
from service.inference.user import Estimate, User
from service.telemetry.metrics import Metrics
from service.telemetry.stopwatch import Stopwatch
from tests.redis_servers import GUARD_S
from tests.service.tiny_artifact import ANTENNAS, SUBCARRIERS
from tests.service.tiny_cell import cell_of, positive_csi, uneven_street

VERSION = cell_of(uneven_street(50, seed=1))
MOST = 4


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def dispatcher(session: MateformerSession, metrics: Metrics) -> Dispatcher:
    return Dispatcher(
        Estimator(session, MOST, 2**20, metrics).locate_in_steps, session, MOST, Admission(0.25, 0.005), metrics
    )


def user(row: int, sign: float = 1.0) -> User:
    csi = sign * positive_csi(20)[row].view(np.float32).reshape(ANTENNAS, SUBCARRIERS, 2)
    return User(VERSION, csi, VERSION.positions[row], 1.0)


def dispatches(metrics: Metrics) -> list[float]:
    """Returns the number of dispatches and of users in them."""
    names = ("fingerpost_dispatch_users_count", "fingerpost_dispatch_users_sum")
    return [metrics.registry.get_sample_value(name) or 0.0 for name in names]


@pytest.mark.anyio
async def test_users_who_arrive_during_a_dispatch_are_located_together(
    dispatcher: Dispatcher, free: threading.Event, metrics: Metrics
) -> None:
    answers = [dispatcher.locate(user(row), math.inf, "single") for row in range(10)]
    free.set()
    together = await asyncio.gather(*answers)
    assert dispatches(metrics) == [3, 10]  # 4, 4 and 2
    alone = [await dispatcher.locate(user(row), math.inf, "single") for row in range(10)]
    np.testing.assert_allclose([one.position for one in together], [one.position for one in alone], atol=1e-4)
    assert dispatches(metrics) == [13, 20]


@pytest.mark.anyio
async def test_late_and_cancelled_users_never_reach_the_model(
    dispatcher: Dispatcher, free: threading.Event, metrics: Metrics
) -> None:
    late = dispatcher.locate(user(0), time.monotonic() + 0.01, "single")
    given_up = dispatcher.locate(user(1), math.inf, "single")
    in_time = dispatcher.locate(user(2), time.monotonic() + 60, "single")
    given_up.cancel()
    await asyncio.sleep(0.02)
    free.set()
    with pytest.raises(TooLate):
        await late
    assert np.isfinite((await in_time).position).all()
    assert dispatches(metrics) == [1, 1]


@pytest.mark.anyio
async def test_single_users_of_a_burst_that_lasts_are_refused_instead_of_answered_late(
    dispatcher: Dispatcher, free: threading.Event
) -> None:
    early = [dispatcher.locate(user(row), math.inf, "single") for row in range(2 * MOST)]
    batch = [dispatcher.locate(user(row), math.inf, "batch") for row in range(MOST)]
    await asyncio.sleep(0.1)
    with pytest.raises(Congested):
        dispatcher.check_room("single")
    free.set()
    answers = await asyncio.gather(*early, return_exceptions=True)
    first = MOST - 1  # a quarter of the dispatch is for the batch
    assert all(isinstance(answer, Estimate) for answer in answers[:first])
    assert all(isinstance(answer, Congested) for answer in answers[first:])
    assert all(isinstance(answer, Estimate) for answer in await asyncio.gather(*batch))


@pytest.mark.anyio
async def test_a_burst_that_ends_is_answered_to_its_last_user(dispatcher: Dispatcher, free: threading.Event) -> None:
    answers = [dispatcher.locate(user(row), math.inf, "single") for row in range(3 * MOST)]
    await asyncio.sleep(0.1)
    free.set()
    assert all(isinstance(answer, Estimate) for answer in await asyncio.gather(*answers))


@pytest.mark.anyio
async def test_a_user_without_an_answer_does_not_affect_others(dispatcher: Dispatcher, free: threading.Event) -> None:
    answers = [dispatcher.locate(user(row, sign), math.inf, "single") for row, sign in enumerate((1.0, -1.0, 1.0))]
    free.set()
    found = await asyncio.gather(*answers)
    assert [bool(np.isfinite(one.position).all()) for one in found] == [True, False, True]


@pytest.mark.anyio
async def test_a_failed_run_fails_all_its_users_and_the_next_run_succeeds(
    dispatcher: Dispatcher, free: threading.Event
) -> None:
    wrong = user(0)._replace(csi=np.ones((ANTENNAS + 1, SUBCARRIERS, 2), np.float32))
    answers = [dispatcher.locate(wrong, math.inf, "single") for _ in range(2)]
    free.set()
    for error in await asyncio.gather(*answers, return_exceptions=True):
        assert isinstance(error, Exception)
    assert np.isfinite((await dispatcher.locate(user(0), math.inf, "single")).position).all()


@pytest.mark.anyio
async def test_a_closed_session_raises_instead_of_hanging(dispatcher: Dispatcher, session: MateformerSession) -> None:
    session.close()
    for _ in range(2):
        with pytest.raises(InferenceFailed):
            await asyncio.wait_for(dispatcher.locate(user(0), math.inf, "single"), GUARD_S)


@pytest.mark.anyio
async def test_single_requests_overtake_batches_and_batches_keep_their_share(
    dispatcher: Dispatcher, free: threading.Event
) -> None:
    order = list[str]()
    answers = []
    for name, lane in (*((f"batch {i}", "batch") for i in range(4)), *((f"single {i}", "single") for i in range(6))):
        answer = dispatcher.locate(user(len(answers)), math.inf, lane)
        answer.add_done_callback(lambda _, name=name: order.append(name))
        answers.append(answer)
    free.set()
    await asyncio.gather(*answers)
    # Four a dispatch: three single users and one of the batch, twice; then the rest.
    assert order[:8] == [
        *("single 0", "single 1", "single 2", "batch 0"),
        *("single 3", "single 4", "single 5", "batch 1"),
    ]
    assert order[8:] == ["batch 2", "batch 3"]


@pytest.mark.anyio
async def test_users_are_located_again_after_the_owner_could_not_be_asked(
    dispatcher: Dispatcher, session: MateformerSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    assert session.take()  # as if the owner thread were at work
    with monkeypatch.context() as scarce:
        scarce.setattr(session, "submit", refuse)
        with pytest.raises(RuntimeError):
            await asyncio.wait_for(dispatcher.locate(user(0), math.inf, "single"), GUARD_S)
    session.give_back()
    assert dispatcher.waiting("single") == 0
    estimate = await asyncio.wait_for(dispatcher.locate(user(0), math.inf, "single"), GUARD_S)
    assert np.isfinite(estimate.position).all()


@pytest.mark.anyio
async def test_an_error_of_the_metrics_does_not_leave_users_waiting(
    dispatcher: Dispatcher, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(metrics, "dispatched", fail)
    with pytest.raises(RuntimeError, match="unforeseen"):
        await asyncio.wait_for(dispatcher.locate(user(0), math.inf, "single"), GUARD_S)


@pytest.mark.anyio
async def test_users_are_located_although_a_dispatch_could_not_begin(
    dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([MemoryError()])
    take = dispatcher._take

    def fail_once() -> object:
        for error in failures:
            raise error
        return take()

    monkeypatch.setattr(dispatcher, "_take", fail_once)
    for row in range(2):
        estimate = await asyncio.wait_for(dispatcher.locate(user(row), math.inf, "single"), GUARD_S)
        assert np.isfinite(estimate.position).all()


def make_dispatcher(
    session: MateformerSession, locate: Callable[[Sequence[int], Stopwatch], Steps[Sequence[int]]]
) -> Dispatcher[int, int]:
    return Dispatcher(locate, session, MOST, Admission(0.25, 0.005), Metrics())


@pytest.mark.anyio
async def test_the_event_loop_waits_for_the_first_step_and_for_no_more(session: MateformerSession) -> None:
    threads = []

    def locate(users: Sequence[int], stopwatch: Stopwatch) -> Steps[Sequence[int]]:
        threads.append(threading.current_thread())
        if users[0]:
            yield
            threads.append(threading.current_thread())
        return users

    dispatcher = make_dispatcher(session, locate)
    for user in range(2):
        assert await asyncio.wait_for(dispatcher.locate(user, math.inf, "single"), GUARD_S) == user
    here, again, there = threads
    assert here is again is threading.current_thread()
    assert there is session.submit(threading.current_thread).result()


@pytest.mark.anyio
async def test_memory_that_the_first_step_lacks_is_tried_for_half_the_users_in_the_owner_thread(
    session: MateformerSession,
) -> None:
    tried = []

    def locate(users: Sequence[int], stopwatch: Stopwatch) -> Steps[Sequence[int]]:
        tried.append(len(users))
        if len(users) > 1:
            raise MemoryError
        return users
        yield

    dispatcher = make_dispatcher(session, locate)
    answers = [dispatcher.locate(user, math.inf, "batch") for user in range(MOST)]
    assert await asyncio.wait_for(asyncio.gather(*answers), GUARD_S) == [*range(MOST)]
    assert tried == [4, 4, 2, 1, 1, 2, 1, 1]


@pytest.mark.anyio
async def test_room_for_single_users_shrinks_with_those_who_wait(dispatcher: Dispatcher, free: threading.Event) -> None:
    before = dispatcher.room
    answers = [dispatcher.locate(user(row), math.inf, "single") for row in range(3)]
    assert dispatcher.room == before - 3
    free.set()
    await asyncio.gather(*answers)
    assert dispatcher.room >= before  # more where the model turns out to be quick
