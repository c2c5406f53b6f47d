"""Finds the current versions of cells for requests: bounded, and never beyond a request's deadline."""

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import partial
from typing import NamedTuple, TypeVar

from reference_db.errors import StoreUnavailable
from reference_db.manifest import Manifest
from reference_db.stores.store import Store
from service.background import BlockingCalls
from service.cells.faults import CellFaults, describe_service_fault
from service.cells.store_errors import translate_store_errors
from service.errors import CellNotFound, CellUnreadable, Congested, ServiceError, StoreDown, TooLate

_log = logging.getLogger("fingerpost.cells")

_REMEMBERED_S = 1.0  # a new cell is served at most this much later
_MOST_REMEMBERED = 4096  # cells
_MOST_KNOWN, _MOST_UNKNOWN = 32, 16  # look-ups at a time; unknown ids must not delay the cells that there are

T = TypeVar("T")


class _Remembered(NamedTuple):
    error: ServiceError
    until: float  # time.monotonic


class Lookups:
    """Reads each manifest once for all requests that wait for it, and remembers for a moment that there is none.

    Ids that the database is not known to have wait in a queue of their own. For the event loop's thread.
    """

    def __init__(self, store: Store, faults: CellFaults, waiting_limit: int) -> None:
        """`waiting_limit`: most requests that wait."""
        self._store = store
        self._faults = faults
        self._waiting_limit = waiting_limit
        self._waiting = 0
        self._known: set[str] = set()
        self._running: dict[str, asyncio.Task[Manifest]] = {}
        self._counts = {True: 0, False: 0}  # look-ups in progress, of known and of unknown ids
        self._remembered: OrderedDict[str, _Remembered] = OrderedDict()
        self._silent_until: dict[str, float] = {}  # time.monotonic, of the shard that failed last
        self._listing = BlockingCalls("cell-names")
        self._threads = ThreadPoolExecutor(3, thread_name_prefix="look-ups")
        self._threads_for_unknown = ThreadPoolExecutor(1, thread_name_prefix="look-ups-unknown")

    async def find(self, cell_id: str, deadline: float = math.inf) -> Manifest:
        """The current version of a cell. `deadline` is a moment of `time.monotonic`.

        Raises `CellNotFound`, `CellUnreadable` or `StoreDown`; `Congested` when too many look-ups are in progress; and
        `TooLate`.
        """
        found = self._remembered.get(cell_id)
        if found is not None:
            if time.monotonic() < found.until:
                raise copy(found.error)
            del self._remembered[cell_id]
        task = self._running.get(cell_id) or self._start(cell_id)
        return await self.wait_for(task, deadline)

    async def wait_for(self, task: "asyncio.Task[T]", deadline: float) -> T:
        """Waits for work that several requests share. Raises `Congested`, `TooLate` and what the work raises."""
        if self._waiting >= self._waiting_limit:
            raise Congested(f"{self._waiting} requests wait for cells that are not in memory; try again later")
        self._waiting += 1
        try:
            # Shielded: a client that disconnects must not cancel the work for the others that wait.
            return await finish_before(deadline, asyncio.shield(task))
        finally:
            self._waiting -= 1

    async def learn(self) -> None:
        """Lists the cells of the database once. Raises `StoreUnavailable` or `JobFailed`."""
        self._known = set(await self._listing.run(self._store.cells))

    def remember(self, cell_id: str, error: ServiceError) -> None:
        """Answers requests for a cell with an error for a moment, instead of trying again for each."""
        # A copy: the error itself holds the requests that it was raised in.
        self._remembered[cell_id] = _Remembered(copy(error), time.monotonic() + _REMEMBERED_S)
        while len(self._remembered) > _MOST_REMEMBERED:
            self._remembered.popitem(last=False)

    def forget(self, cell_id: str) -> None:
        """Call when a cell has a new version: later requests must not get an answer from before."""
        self._known.add(cell_id)
        self._remembered.pop(cell_id, None)
        self._running.pop(cell_id, None)  # requests that wait already may get it

    def close(self) -> None:
        for threads in (self._threads, self._threads_for_unknown):
            threads.shutdown(wait=True, cancel_futures=True)

    def _start(self, cell_id: str) -> "asyncio.Task[Manifest]":
        known = cell_id in self._known
        if self._counts[known] >= (_MOST_KNOWN if known else _MOST_UNKNOWN):
            raise Congested(f"{self._counts[known]} cells are being looked up; try again later")
        task = self._running[cell_id] = asyncio.create_task(self._read(cell_id, known))
        self._counts[known] += 1
        task.add_done_callback(partial(self._finish, cell_id, known))
        return task

    def _finish(self, cell_id: str, known: bool, task: "asyncio.Task[Manifest]") -> None:
        self._counts[known] -= 1
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, ServiceError):  # perhaps no request waits for it any more
            _log.error("cell %s cannot be looked up", cell_id, exc_info=error)
        if self._running.get(cell_id) is task:
            del self._running[cell_id]
            if isinstance(error, CellNotFound | CellUnreadable | StoreDown):
                self.remember(cell_id, error)
            if isinstance(error, CellUnreadable):
                self._faults.record(cell_id, describe_service_fault(error, None))

    async def _read(self, cell_id: str, known: bool) -> Manifest:
        threads = self._threads if known else self._threads_for_unknown
        manifest = await asyncio.get_running_loop().run_in_executor(threads, self._read_manifest, cell_id)
        if manifest is None:
            self._known.discard(cell_id)
            raise CellNotFound("/cellId", "no such cell")
        self._known.add(cell_id)
        return manifest

    def _read_manifest(self, cell_id: str) -> Manifest | None:
        with translate_store_errors():
            shard = self._store.shard(cell_id)
            if time.monotonic() < self._silent_until.get(shard, 0.0):
                raise StoreUnavailable("the store did not answer a moment ago")
            try:
                return self._store.current(cell_id)
            except StoreUnavailable:
                # Look-ups that wait for a thread must not wait for the store one after the other.
                self._silent_until = {shard: time.monotonic() + _REMEMBERED_S}
                raise


async def finish_before(deadline: float, work: Awaitable[T]) -> T:
    """Waits for work until a moment of `time.monotonic`. Raises `TooLate`."""
    if deadline == math.inf:
        return await work
    try:
        async with asyncio.timeout(deadline - time.monotonic()) as limit:
            return await work
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise TooLate("maxRespTime has passed") from error
