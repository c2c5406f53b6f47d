"""A pool of threads whose places and threads the system may refuse."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.errors import Congested
from service.inference.workers import Workers
from tests.service.running import running, tiny_request
from tests.service.tiny_service import make_tiny_settings


@pytest.fixture
def workers() -> Iterator[Workers]:
    workers = Workers("test", threads=2, limit=2)
    yield workers
    workers.close()


def _refuse(*_: object) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.anyio
async def test_a_call_that_cannot_be_submitted_takes_no_place(workers: Workers) -> None:
    workers.close()
    for _ in range(3):
        with pytest.raises(RuntimeError):  # never `Congested`: nothing waits
            await workers.run(int)


@pytest.mark.anyio
async def test_calls_need_no_further_thread(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", _refuse)
    assert [await workers.run(int) for _ in range(4)] == [0] * 4


@pytest.mark.anyio
async def test_calls_beyond_the_limit_are_refused_and_places_come_back(workers: Workers) -> None:
    free = threading.Event()
    running_calls = [asyncio.ensure_future(workers.run(free.wait)) for _ in range(2)]
    await asyncio.sleep(0)  # both are submitted
    with pytest.raises(Congested):
        await workers.run(int)
    free.set()
    await asyncio.gather(*running_calls)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await workers.run(divmod, 1, 0)


@pytest.mark.anyio
async def test_batches_are_located_while_no_thread_can_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = {"items": [tiny_request(1)] * 40}  # more than the event loop decodes by itself
    async with running(make_tiny_settings(tmp_path, waiting_limit=2)) as client:
        assert (await client.post("/locate", json=tiny_request(1))).status_code == 200  # the cell is in memory
        with monkeypatch.context() as scarce:
            scarce.setattr(threading.Thread, "start", _refuse)
            scarcely = [(await client.post("/locate/batch", json=batch)).status_code for _ in range(4)]
        after = await client.post("/locate/batch", json=batch)
    assert (scarcely, after.status_code) == ([200] * 4, 200)
