"""Turns an operator's change into a version of a cell: builds it, tests it, publishes it by one compare-and-set."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from reference_db.cell_version import CellVersion
from reference_db.contents import Contents, read_contents
from reference_db.errors import MissingSegment, UnknownVersion
from reference_db.manifest import Manifest
from reference_db.stores.store import Removal, Store
from reference_db.update import Origin, Update
from service import errors
from service.cells.registry import ServedCells
from service.cells.stations import Stations
from service.cells.store_errors import translate_store_errors
from service.cells.trajectories import Trajectories
from service.errors import ServiceError
from service.inference.workers import lower_thread_priority
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.updates.plausibility import carry_findings
from service.updates.progress import Progress
from service.updates.trials import Trials

_log = logging.getLogger("fingerpost.updates")

_ATTEMPTS = 8  # to publish, while other replicas publish the same cell
_SEARCHED_VERSIONS = 256  # newest ones that are kept, for an idempotency key

P = ParamSpec("P")
T = TypeVar("T")


class Conditions(NamedTuple):
    """Conditions of a change: the current version (`if_match`; `*` is any version), or that the cell does not exist.

    `force` publishes even if the artifact cannot serve the version, or if the canary refuses it.
    """

    if_match: str | None = None
    if_none_match: bool = False
    force: bool = False


class Published(NamedTuple):
    """`replayed`: an earlier request with the same idempotency key made this version."""

    manifest: Manifest
    replayed: bool


class _SegmentsRemoved(Exception):
    """Another replica has removed the version to roll back to."""


class Publisher:
    """Publishes one change of a cell at a time. Changes of different cells run at once, as far as there are threads.

    Belongs to the event loop's thread.
    """

    def __init__(
        self,
        store: Store,
        served: ServedCells,
        settings: Settings,
        metrics: Metrics,
        trajectories: Trajectories | None = None,
        stations: Stations | None = None,
    ) -> None:
        self.store = store
        self.progress = Progress()
        self.trials = Trials(store, served, settings, self.progress, trajectories, stations)
        self._served = served
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="operators", initializer=lower_thread_priority)
        # A publication may take minutes. Requests that only read do not wait for it.
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="operators-reads", initializer=lower_thread_priority)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def publish(
        self, cell_id: str, change: Callable[[Contents | None], Update], conditions: Conditions, origin: Origin
    ) -> Published:
        """Publishes the update that `change` makes from a cell's current contents (None: the cell does not exist).

        Calls `change` again if another replica published in the meantime, unless the conditions name a version. The
        store has the version on disk when this returns.

        Raises `PreconditionFailed`, `IdempotencyKeyReused`, `VersionRefused`, `CellNotServed`, `BandNotServed` or
        `CellTooSmall`; in a cell whose policy needs no fingerprints, what `check_learned` or `check_station` raises;
        what `change` raises, translated by `translate_store_errors`; and `StoreDown`. Then nothing has changed, unless
        the store failed at the last moment: a second request with the same idempotency key is always safe.
        """

        def on_contents(before: Manifest | None) -> Update:
            return change(None if before is None else self.read_contents(before))

        return await self._publish_alone(cell_id, on_contents, conditions, origin)

    async def replace(
        self, cell_id: str, change: Callable[[Manifest | None], Update], conditions: Conditions, origin: Origin
    ) -> Published:
        """As `publish`, for changes that do not read the current fingerprints, which may be damaged."""
        return await self._publish_alone(cell_id, change, conditions, origin)

    async def rehearse(self, cell_id: str, rehearsed: Callable[[Manifest | None], T], conditions: Conditions) -> T:
        """Calls `rehearsed` with the cell's current version, in the thread of changes. Raises `PreconditionFailed`.

        `rehearsed` may call `trials.rehearse`.
        """

        def rehearse() -> T:
            before = self.store.current(cell_id)
            _check_conditions(conditions, before)
            with self.progress.follow(cell_id, "checking"):
                return rehearsed(before)

        return await asyncio.get_running_loop().run_in_executor(self._threads, _translate_errors, rehearse)

    def read_contents(self, manifest: Manifest) -> Contents:
        """The contents of a version. Blocking."""
        held = self._served.held(manifest.cell.cell_id)
        return read_contents(self.store, manifest, None if held is None else held.contents)

    async def remove_cell(self, cell_id: str, conditions: Conditions) -> Removal:
        """Removes a cell with all its versions.

        Raises `CellNotFound`, `PreconditionFailed`, `CellUnreadable` where the conditions name a version and the
        current one is damaged, or `StoreDown`.
        """
        lock = self._locks.setdefault(cell_id, asyncio.Lock())
        try:
            async with lock:
                work = partial(self._remove_cell, cell_id, conditions)
                removal = await asyncio.get_running_loop().run_in_executor(self._threads, _translate_errors, work)
        except ServiceError as error:
            self._metrics.updated(error.cause)
            raise
        self._metrics.updated("removed")
        self._served.notify(cell_id)
        return removal

    async def read(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls `function`, which may wait for the store, in a thread. Raises only `ServiceError`s."""
        work = partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._readers, _translate_errors, work)

    def close(self) -> None:
        for threads in (self._threads, self._readers):
            threads.shutdown(wait=True, cancel_futures=True)

    async def _publish_alone(
        self, cell_id: str, change: Callable[[Manifest | None], Update], conditions: Conditions, origin: Origin
    ) -> Published:
        lock = self._locks.setdefault(cell_id, asyncio.Lock())
        try:
            async with lock:
                held = self._served.held(cell_id)
                self.progress.enter(cell_id, "checking")
                work = partial(self._publish, cell_id, change, conditions, origin, held)
                published, version = await asyncio.get_running_loop().run_in_executor(
                    self._threads, _translate_errors, work
                )
        except ServiceError as error:
            self._metrics.updated(error.cause)
            raise
        finally:
            self.progress.leave(cell_id)
        self._metrics.updated("replayed" if published.replayed else "published")
        if not published.replayed:
            self._served.notify(cell_id, version)
        return published

    def _remove_cell(self, cell_id: str, conditions: Conditions) -> Removal:
        expected = None
        if conditions.if_match not in (None, "*"):
            with errors.overridden_by_force("without If-Match deletes it anyway", errors.CellUnreadable):
                current = _translate_errors(partial(self.store.current, cell_id))
            _check_conditions(conditions, current)
            expected = None if current is None else current.digest
        removal = self.store.remove_cell(cell_id, expected)
        if removal == Removal():
            raise errors.CellNotFound("/cellId", "no such cell")
        _log.info("cell %s: removed with %d versions, %d bytes", cell_id, len(removal.versions), removal.bytes)
        return removal

    def _publish(
        self,
        cell_id: str,
        change: Callable[[Manifest | None], Update],
        conditions: Conditions,
        origin: Origin,
        held: CellVersion | None,
    ) -> tuple[Published, CellVersion | None]:
        engine = self._served.engine
        for _ in range(_ATTEMPTS):
            before = self.store.current(cell_id)
            if earlier := self._find_earlier(cell_id, before, origin):
                return Published(earlier, replayed=True), None
            _check_conditions(conditions, before)
            try:
                update = carry_findings(change(before), before)
            except UnknownVersion as error:
                if before is None or error.number != before.number:
                    raise
                continue  # another replica has removed it meanwhile
            tested = self.trials.test(engine, update, before, held, force=conditions.force)
            manifest = tested.update.manifest
            self.progress.enter(cell_id, "publishing")
            try:
                with translate_store_errors():
                    self._publish_once(tested.update, before)
            except _SegmentsRemoved:  # those of an older version: `change` finds out
                continue
            except errors.PreconditionFailed:
                if conditions.if_match or conditions.if_none_match:
                    raise
                continue
            _log.info("cell %s: version %s published, %s", cell_id, manifest.version, manifest.change.action)
            return Published(manifest, replayed=False), tested.version
        raise errors.PreconditionFailed("other replicas keep changing this cell")

    def _publish_once(self, update: Update, before: Manifest | None) -> None:
        expected = None if before is None else before.digest
        try:
            self.store.publish(update.manifest, update.segments, expected, update.without)
        except MissingSegment as error:
            if before is not None and update.manifest.change.action == "rolled back":
                raise _SegmentsRemoved from error
            raise

    def _find_earlier(self, cell_id: str, before: Manifest | None, origin: Origin) -> Manifest | None:
        """The version that an earlier request with the same idempotency key made."""
        if origin.request is None or before is None:
            return None
        for number in self.store.numbers(cell_id)[: -_SEARCHED_VERSIONS - 1 : -1]:
            try:
                manifest = before if number == before.number else self.store.manifest(cell_id, number)
            except UnknownVersion:  # removed meanwhile
                continue
            known = manifest.change.request
            if known is not None and known.key == origin.request.key:
                if known.body != origin.request.body:
                    raise errors.IdempotencyKeyReused("an earlier request with this key was a different one")
                return manifest
        return None


def _translate_errors(work: Callable[[], T]) -> T:
    with translate_store_errors():
        return work()


def _check_conditions(conditions: Conditions, before: Manifest | None) -> None:
    if conditions.if_none_match and before is not None:
        raise errors.PreconditionFailed(f"the cell exists, at version {before.version}")
    if conditions.if_match is None:
        return
    if before is None:
        raise errors.PreconditionFailed("the cell does not exist")
    if conditions.if_match not in ("*", before.version):
        raise errors.PreconditionFailed(f"the cell is at version {before.version}")
