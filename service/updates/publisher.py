"""How an operator's change becomes a version of a cell: made aside, tried, and published by one compare-and-set."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import NamedTuple, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from reference_db.cell_version import CellVersion
from reference_db.contents import Contents, read_contents
from reference_db.errors import TooFewFingerprints
from reference_db.manifest import Manifest
from reference_db.stores.store import Store
from reference_db.update import Origin, Update
from service import errors
from service.cells.calibration import Calibration, calibrate, check_serves
from service.cells.canary import Canary, run_canary
from service.cells.registry import ServedCells
from service.cells.store_errors import translate_store_errors
from service.cells.trajectories import Trajectories
from service.errors import ServiceError
from service.inference.engine import MateformerEngine
from service.inference.workers import lower_thread_priority
from service.settings import Settings
from service.telemetry.metrics import Metrics

_log = logging.getLogger("fingerpost.updates")

_ATTEMPTS = 8  # with so many others publishing the same cell that each time one was quicker
_REMEMBERED = 256  # versions among which an idempotency key is looked for

P = ParamSpec("P")
T = TypeVar("T")


class Conditions(NamedTuple):
    """On what a change depends: the current version (`if_match`, or any: `*`), or that there is none yet.

    `force` publishes although the artifact cannot serve the version or the canary objects to it.
    """

    if_match: str | None = None
    if_none_match: bool = False
    force: bool = False


class Published(NamedTuple):
    """`replayed`: an earlier request with the same idempotency key made this version."""

    manifest: Manifest
    replayed: bool


class _Tried(NamedTuple):
    update: Update
    version: CellVersion | None  # with its indices, where the artifact could serve it


class Publisher:
    """One change of a cell at a time; other cells do not wait, but for the threads. For the event loop's thread."""

    def __init__(
        self,
        store: Store,
        served: ServedCells,
        settings: Settings,
        metrics: Metrics,
        trajectories: Trajectories | None = None,
    ) -> None:
        self.store = store
        self._served = served
        self._settings = settings
        self._metrics = metrics
        self._trajectories = trajectories
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="operators", initializer=lower_thread_priority)
        # To publish may take minutes: whoever only looks must not wait for that.
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="operators-reads", initializer=lower_thread_priority)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def publish(
        self, cell_id: str, change: Callable[[Contents | None], Update], conditions: Conditions, origin: Origin
    ) -> Published:
        """Publishes what `change` makes of a cell's current contents (None: there is no such cell).

        It is called anew when somebody else was quicker, unless the conditions name a version. When this returns the
        version is kept for good. Raises `PreconditionFailed`, `IdempotencyKeyReused`, `VersionRefused`, `CellNotServed`
        or `CellTooSmall`, what `check_learned` raises of a cell where only trajectories are located, whatever
        `translate_store_errors` makes of what `change` raises, and `StoreDown`; then nothing has changed, but for a
        store that failed at the last moment: asking again with the same idempotency key is always safe.
        """

        def on_contents(before: Manifest | None) -> Update:
            return change(None if before is None else self._contents(before))

        return await self._in_turn(cell_id, on_contents, conditions, origin)

    async def replace(
        self, cell_id: str, change: Callable[[Manifest | None], Update], conditions: Conditions, origin: Origin
    ) -> Published:
        """As `publish`, for changes that need nothing of the fingerprints there are: they may be damaged."""
        return await self._in_turn(cell_id, change, conditions, origin)

    async def read(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls `function` in a thread, as it may wait for the store. Raises `ServiceError`s only."""

        work = partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._readers, _refusing, work)

    def close(self) -> None:
        for threads in (self._threads, self._readers):
            threads.shutdown(wait=True, cancel_futures=True)

    async def _in_turn(
        self, cell_id: str, change: Callable[[Manifest | None], Update], conditions: Conditions, origin: Origin
    ) -> Published:
        turn = self._turns.setdefault(cell_id, asyncio.Lock())
        try:
            async with turn:
                held = self._served.held(cell_id)
                work = partial(self._publish, cell_id, change, conditions, origin, held)
                published, like = await asyncio.get_running_loop().run_in_executor(self._threads, _refusing, work)
        except ServiceError as error:
            self._metrics.updated(error.cause)
            raise
        self._metrics.updated("replayed" if published.replayed else "published")
        if not published.replayed:
            self._served.notify(cell_id, like)
            if self._trajectories is not None:
                self._trajectories.cells.notify(cell_id)
        return published

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
            if earlier := self._earlier(cell_id, before, origin):
                return Published(earlier, replayed=True), None
            _check(conditions, before)
            update = change(before)
            tried = self._tried(engine, update, before, held, conditions.force)
            manifest = tried.update.manifest
            try:
                with translate_store_errors():
                    self.store.publish(manifest, tried.update.segments, None if before is None else before.digest)
            except errors.PreconditionFailed:
                if conditions.if_match or conditions.if_none_match:
                    raise
                continue
            _log.info("cell %s: version %s published, %s", cell_id, manifest.version, manifest.change.action)
            return Published(manifest, replayed=False), tried.version
        raise errors.PreconditionFailed("others keep changing this cell")

    def _contents(self, manifest: Manifest) -> Contents:
        held = self._served.held(manifest.cell.cell_id)
        return read_contents(self.store, manifest, None if held is None else held.contents)

    def _earlier(self, cell_id: str, before: Manifest | None, origin: Origin) -> Manifest | None:
        """The version that the same request made already."""
        if origin.request is None or before is None:
            return None
        for number in self.store.numbers(cell_id)[: -_REMEMBERED - 1 : -1]:
            manifest = before if number == before.number else self.store.manifest(cell_id, number)
            known = manifest.change.request
            if known is not None and known.key == origin.request.key:
                if known.body != origin.request.body:
                    raise errors.IdempotencyKeyReused("the same key came with another request before")
                return manifest
        return None

    def _tried(
        self, engine: MateformerEngine, update: Update, before: Manifest | None, held: CellVersion | None, force: bool
    ) -> _Tried:
        """The update with what the artifact makes of it; raises where it is not fit to serve, unless forced."""
        if update.manifest.model == "scadf-moe":
            if not force:
                self._check_learned(update.manifest)
            return _Tried(update, None)
        artifact, estimator = engine.artifact, engine.estimator
        served_before = before is not None and self._serves(engine, before)
        try:
            check_serves(artifact, update.manifest, self._settings.confidence)
        except errors.CellTooSmall:
            if served_before and not force:
                raise
            return _Tried(update, None)  # a cell begins small
        except errors.CellNotServed:
            if not (force or self._has_learned(update.manifest)):
                raise
            return _Tried(update, None)
        usual = None if before is None else Calibration.of_quality(before.quality, artifact.digest)
        old = self._indexed(before, held, update.contents) if served_before and before is not None else None
        version = CellVersion.assemble(update.contents, old)
        tried_before = update.manifest.change.action == "rolled back"
        canary = run_canary(estimator, version, None if tried_before else old, self._settings.calibration_seed)
        if not (force or tried_before):  # to go back from a version that went wrong must not depend on that one
            canary.check(usual)
        own = Calibration.of_quality(update.manifest.quality, artifact.digest)
        known = next((one for one in (own, usual) if one is not None and self._holds(one, canary, version)), None)
        calibration = known or calibrate(artifact, estimator, version, self._settings)
        update = update.with_quality(calibration.as_quality(artifact.digest) | canary.as_quality())
        return _Tried(update, replace(version, contents=update.contents))

    def _holds(self, calibration: Calibration, canary: Canary, version: CellVersion) -> bool:
        same = calibration.confidence == self._settings.confidence
        return same and canary.agrees(calibration, len(version))

    def _check_learned(self, manifest: Manifest) -> None:
        if self._trajectories is None:
            raise errors.NoTrajectoryArtifact("no artifact for trajectories is configured")
        self._trajectories.check(manifest)

    def _has_learned(self, manifest: Manifest) -> bool:
        try:
            self._check_learned(manifest)
        except ServiceError:
            return False
        return True

    def _serves(self, engine: MateformerEngine, manifest: Manifest) -> bool:
        try:
            check_serves(engine.artifact, manifest, self._settings.confidence)
        except ServiceError:
            return False
        return True

    def _indexed(self, before: Manifest, held: CellVersion | None, after: Contents) -> CellVersion | None:
        """The version before, to be compared with the one `after`, which has read most of it; None where damaged."""
        if held is not None and held.manifest.digest == before.digest:
            return held
        try:
            with translate_store_errors():
                return CellVersion.assemble(read_contents(self.store, before, after), held)
        except (errors.CellUnreadable, TooFewFingerprints):
            return None


def _refusing(work: Callable[[], T]) -> T:
    with translate_store_errors():
        return work()


def _check(conditions: Conditions, before: Manifest | None) -> None:
    if conditions.if_none_match and before is not None:
        raise errors.PreconditionFailed(f"the cell is there already, at version {before.version}")
    if conditions.if_match is None:
        return
    if before is None:
        raise errors.PreconditionFailed("there is no such cell")
    if conditions.if_match not in ("*", before.version):
        raise errors.PreconditionFailed(f"the cell is at version {before.version}")
