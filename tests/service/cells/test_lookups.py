"""Look-ups of cells in a store that answers when the test lets it."""

import asyncio
import gc
import math
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable

import pytest
from prometheus_client import CollectorRegistry

from reference_db import DirectoryStore, Manifest, StoreUnavailable, replace_cell
from service.cells.faults import CellFaults
from service.cells.lookups import Lookups
from service.errors import CellNotFound, Congested, ServiceError, StoreDown, TooLate
from service.telemetry.fault_metrics import FaultMetrics
from tests.service.tiny_cell import ORIGIN, tiny_cell

PATIENCE_S = 60.0

pytestmark = pytest.mark.anyio


class SlowStore(DirectoryStore):
    """Has no cell but those `added`. Answers about `stuck` ones after `release`, or not at all."""

    def __init__(self) -> None:
        self.added: dict[str, Manifest] = {}
        self.asked: list[str] = []
        self.down = False
        self.release = threading.Event()

    def cells(self) -> list[str]:
        return sorted(self.added)

    def shard(self, cell_id: str) -> str:
        return ""

    def current(self, cell_id: str) -> Manifest | None:
        self.asked.append(cell_id)
        if cell_id.startswith("stuck"):
            self.release.wait(PATIENCE_S)
        if self.down:
            raise StoreUnavailable("down")
        return self.added.get(cell_id)


@pytest.fixture
async def store() -> AsyncIterator[SlowStore]:
    store = SlowStore()
    yield store
    store.release.set()


@pytest.fixture
async def lookups(store: SlowStore) -> AsyncIterator[Lookups]:
    lookups = Lookups(store, CellFaults(FaultMetrics(CollectorRegistry())), waiting_limit=40)
    yield lookups
    store.release.set()
    lookups.close()


async def outcome(lookups: Lookups, cell_id: str, deadline: float = math.inf) -> type[ServiceError] | None:
    try:
        await lookups.find(cell_id, deadline)
    except ServiceError as error:
        return type(error)
    return None


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not done():
            await asyncio.sleep(0.001)


async def test_an_unknown_cell_is_looked_up_once_for_all_who_ask_and_for_a_moment_after(
    lookups: Lookups, store: SlowStore
) -> None:
    assert await asyncio.gather(*(outcome(lookups, "nowhere") for _ in range(20))) == [CellNotFound] * 20
    assert await outcome(lookups, "nowhere") is CellNotFound
    assert store.asked == ["nowhere"]


async def test_a_new_cell_is_found_at_once_even_if_a_look_up_from_before_still_runs(
    lookups: Lookups, store: SlowStore, manifest: Manifest
) -> None:
    assert await outcome(lookups, "new") is CellNotFound
    before = asyncio.create_task(outcome(lookups, "stuck"))
    await until(lambda: "stuck" in store.asked)
    store.added = {"new": manifest, "stuck": manifest}
    for cell_id in store.added:
        lookups.forget(cell_id)
    assert await outcome(lookups, "new") is None
    store.release.set()
    assert await outcome(lookups, "stuck") is None
    await before
    assert await outcome(lookups, "stuck") is None


async def test_deadlines_hold_while_the_store_hangs(lookups: Lookups, store: SlowStore) -> None:
    patient = asyncio.create_task(outcome(lookups, "stuck"))
    assert await outcome(lookups, "stuck", time.monotonic() + 0.01) is TooLate
    assert await outcome(lookups, "stuck", time.monotonic() - 1) is TooLate
    store.release.set()
    assert await patient is CellNotFound
    assert store.asked.count("stuck") == 1


async def test_unknown_ids_are_bounded_and_do_not_delay_a_cell_that_is_there(
    lookups: Lookups, store: SlowStore, manifest: Manifest
) -> None:
    store.added = {"there": manifest}
    await lookups.learn()
    waiting = [asyncio.create_task(outcome(lookups, f"stuck-{number}")) for number in range(16)]
    await until(lambda: len(store.asked) == 1)
    assert await outcome(lookups, "stuck-16") is Congested
    assert await outcome(lookups, "there") is None
    store.release.set()
    assert set(await asyncio.gather(*waiting)) == {CellNotFound}
    assert await outcome(lookups, "stuck-16") is CellNotFound


async def test_no_more_requests_wait_than_the_limit(lookups: Lookups, store: SlowStore) -> None:
    waiting = [asyncio.create_task(outcome(lookups, "stuck")) for _ in range(40)]
    await until(lambda: len(store.asked) == 1)
    assert await outcome(lookups, "stuck") is Congested
    store.release.set()
    assert set(await asyncio.gather(*waiting)) == {CellNotFound}


async def test_look_ups_that_queue_behind_a_failed_one_do_not_try_each(lookups: Lookups, store: SlowStore) -> None:
    store.down = True
    waiting = [asyncio.create_task(outcome(lookups, f"stuck-{number}")) for number in range(10)]
    await until(lambda: len(store.asked) == 1)
    store.release.set()
    assert set(await asyncio.gather(*waiting)) == {StoreDown}
    assert store.asked == ["stuck-0"]


async def test_a_client_that_leaves_cancels_the_look_up_for_nobody_else(lookups: Lookups, store: SlowStore) -> None:
    first = asyncio.create_task(outcome(lookups, "stuck"))
    await until(lambda: len(store.asked) == 1)
    second = asyncio.create_task(outcome(lookups, "stuck"))
    await asyncio.sleep(0)
    first.cancel()
    store.release.set()
    assert await second is CellNotFound


@pytest.fixture
def manifest() -> Manifest:
    return replace_cell(None, tiny_cell(), None, ORIGIN).manifest


class Body:
    """Stands for what a request holds."""


async def test_a_remembered_error_holds_nothing_of_the_requests_that_it_answered(lookups: Lookups) -> None:
    async def ask() -> "weakref.ref[Body]":
        body = Body()
        with pytest.raises(CellNotFound, match="no such cell"):
            await lookups.find("nowhere")
        return weakref.ref(body)

    asked = [await ask() for _ in range(3)]  # the first looks the cell up, the others get the remembered error
    await asyncio.sleep(0)  # the callbacks of the look-up run
    gc.collect()
    assert [one() for one in asked] == [None] * 3
