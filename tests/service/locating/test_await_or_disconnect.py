import asyncio
import math
import threading

import numpy as np
import pytest
from starlette.requests import Request
from starlette.types import Message

from service.errors import ClientGone, TooLate
from service.inference.admission import Admission
from service.inference.dispatcher import Dispatcher
from service.inference.estimator import Estimator
from service.inference.mateformer_session import MateformerSession
from service.locating.await_or_disconnect import await_or_disconnect
from service.telemetry.metrics import Metrics
from tests.service.inference.test_dispatcher import dispatches, user


def request_of_a_client_that_leaves(gone: asyncio.Event) -> Request:
    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    return Request({"type": "http"}, receive)


@pytest.mark.anyio
async def test_users_of_a_disconnected_client_never_reach_the_model(
    session: MateformerSession, free: threading.Event
) -> None:
    metrics, gone = Metrics(), asyncio.Event()
    dispatcher = Dispatcher(
        Estimator(session, 4, 2**20, metrics).locate_in_steps, session, 4, Admission(0.25, 0.005), metrics
    )
    futures = [dispatcher.locate(user(row), math.inf, "single") for row in range(3)]
    waiting = asyncio.create_task(await_or_disconnect(futures, request_of_a_client_that_leaves(gone)))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    gone.set()
    with pytest.raises(ClientGone):
        await waiting
    free.set()
    assert np.isfinite((await dispatcher.locate(user(5), math.inf, "single")).position).all()
    assert dispatches(metrics) == [1, 1]


@pytest.mark.anyio
async def test_results_and_errors_come_in_order(session: MateformerSession, free: threading.Event) -> None:
    metrics = Metrics()
    dispatcher = Dispatcher(
        Estimator(session, 4, 2**20, metrics).locate_in_steps, session, 4, Admission(0.25, 0.005), metrics
    )
    futures = [
        dispatcher.locate(user(row), deadline, "single") for row, deadline in enumerate((math.inf, 0.0, math.inf))
    ]
    waiting = asyncio.create_task(await_or_disconnect(futures, request_of_a_client_that_leaves(asyncio.Event())))
    await asyncio.sleep(0.05)
    free.set()
    first, late, last = await waiting
    assert isinstance(late, TooLate)
    assert np.isfinite([first.position, last.position]).all()


@pytest.mark.anyio
async def test_a_cancelled_wait_cancels_its_futures() -> None:
    futures = [asyncio.get_running_loop().create_future() for _ in range(2)]
    waiting = asyncio.create_task(await_or_disconnect(futures, request_of_a_client_that_leaves(asyncio.Event())))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert all(future.cancelled() for future in futures)


@pytest.mark.anyio
async def test_no_futures_return_at_once() -> None:
    assert await await_or_disconnect([], request_of_a_client_that_leaves(asyncio.Event())) == []
