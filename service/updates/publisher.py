"""Turns an operator's change into a version of a cell: builds it, tests it, publishes it by one compare-and-set."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import NamedTuple, ParamSpec, TypeVar
from weakref import WeakValueDictionary

import numpy as np

from reference_db.cell_version import CellVersion
from reference_db.contents import Contents, read_contents
from reference_db.errors import MissingSegment, TooFewFingerprints, UnknownVersion
from reference_db.manifest import Manifest
from reference_db.stores.store import Removal, Store
from reference_db.update import Origin, Update
from service import errors
from service.cells.calibration import Calibration, calibrate, check_serves
from service.cells.canary import Canary, run_canary
from service.cells.registry import ServedCells
from service.cells.stations import Stations
from service.cells.store_errors import translate_store_errors
from service.cells.trajectories import Trajectories
from service.errors import ServiceError
from service.inference.engine import MateformerEngine
from service.inference.workers import lower_thread_priority
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.updates.plausibility import carry_findings, judge_calibration, judge_size, with_findings

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


class _TestedUpdate(NamedTuple):
    update: Update
    version: CellVersion | None  # with its indices; None if the artifact cannot serve it


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
        self._served = served
        self._settings = settings
        self._metrics = metrics
        self._trajectories = trajectories
        self._stations = stations
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
            return change(None if before is None else self._read_contents(before))

        return await self._publish_alone(cell_id, on_contents, conditions, origin)

    async def replace(
        self, cell_id: str, change: Callable[[Manifest | None], Update], conditions: Conditions, origin: Origin
    ) -> Published:
        """As `publish`, for changes that do not read the current fingerprints, which may be damaged."""
        return await self._publish_alone(cell_id, change, conditions, origin)

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
                work = partial(self._publish, cell_id, change, conditions, origin, held)
                published, version = await asyncio.get_running_loop().run_in_executor(
                    self._threads, _translate_errors, work
                )
        except ServiceError as error:
            self._metrics.updated(error.cause)
            raise
        self._metrics.updated("replayed" if published.replayed else "published")
        if not published.replayed:
            self._served.notify(cell_id, version)
        return published

    def _remove_cell(self, cell_id: str, conditions: Conditions) -> Removal:
        expected = None
        if conditions.if_match not in (None, "*"):
            current = self.store.current(cell_id)
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
            tested = self._test_update(engine, update, before, held, conditions.force)
            manifest = tested.update.manifest
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

    def _read_contents(self, manifest: Manifest) -> Contents:
        held = self._served.held(manifest.cell.cell_id)
        return read_contents(self.store, manifest, None if held is None else held.contents)

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

    def _test_update(
        self, engine: MateformerEngine, update: Update, before: Manifest | None, held: CellVersion | None, force: bool
    ) -> _TestedUpdate:
        """The update with its calibration. Raises if the artifact cannot serve the version, unless `force` is set."""
        if update.manifest.model in ("scadf-moe", "lwlm"):
            if not force:
                self._check_policy(update.manifest)
            return _TestedUpdate(update, None)
        artifact, estimator = engine.artifact, engine.estimator
        served_before = before is not None and self._serves(engine, before)
        try:
            check_serves(artifact, update.manifest, self._settings.confidence)
        except errors.CellTooSmall as error:
            if served_before and not force:
                raise
            small = judge_size(error, update.manifest.fingerprints, stands_in=self._is_measured(update.manifest))
            return _TestedUpdate(with_findings(update, small), None)  # new cells start small
        except (errors.CellNotServed, errors.BandNotServed) as error:
            if not force:
                self._check_others(update.manifest, error)
            return _TestedUpdate(update, None)
        previous = None
        if before is not None and _has_same_clocks(before, update.manifest):
            previous = Calibration.of_quality(before.quality, artifact.digest)
        old = self._index_before(before, held, update.contents) if served_before and before is not None else None
        version = CellVersion.assemble(update.contents, old)
        action = update.manifest.change.action
        rolled_back = action == "rolled back"
        comparable = None if rolled_back or action == "corrected" else old  # both may move all fingerprints on purpose
        canary = run_canary(estimator, version, comparable, self._settings.calibration_seed)
        if not (force or rolled_back):  # a rollback must not depend on the version that it leaves
            canary.check(previous)
        known = None if force else self._find_calibration(artifact.digest, version, old, canary)
        calibration = known or calibrate(artifact, estimator, version, self._settings)
        update = update.with_quality(calibration.as_quality(artifact.digest) | canary.as_quality())
        update = with_findings(update, judge_calibration(calibration))
        return _TestedUpdate(update, replace(version, contents=update.contents))

    def _find_calibration(
        self, digest: str, version: CellVersion, before: CellVersion | None, canary: Canary
    ) -> Calibration | None:
        """A calibration of an earlier version that still holds: for a rollback, first that of the restored version."""
        known = [Calibration.of_quality(version.manifest.quality, digest)]
        if before is not None and before.cell == version.cell:
            previous = Calibration.of_quality(before.manifest.quality, digest)
            changed = len(np.setxor1d(before.ids, version.ids))
            known.append(None if previous is None else previous.after_change(changed))
        return next((one for one in known if one is not None and self._still_holds(one, canary)), None)

    def _still_holds(self, calibration: Calibration, canary: Canary) -> bool:
        same = calibration.confidence == self._settings.confidence
        return same and not calibration.expired and canary.agrees(calibration)

    def _check_policy(self, manifest: Manifest) -> None:
        """Raises why the only model that a cell's policy allows cannot serve it. The model needs no fingerprints."""
        if manifest.model == "lwlm":
            if self._stations is None:
                raise errors.NoMeasuringArtifact("no artifact that measures snapshots is configured")
            self._stations.check(manifest)
            return
        if self._trajectories is None:
            raise errors.NoTrajectoryArtifact("no artifact for trajectories is configured")
        self._trajectories.check(manifest)

    def _check_others(self, manifest: Manifest, why: errors.CellNotServed | errors.BandNotServed) -> None:
        """Checks that another model serves a cell that the artifact for fingerprints cannot serve because of `why`.

        Raises an error of the same kind with the reasons of all models.
        """
        reasons = [why.reason]
        for family, others in (("scadf-moe", self._trajectories), ("lwlm", self._stations)):
            if others is None:
                continue
            try:
                others.check(manifest)
            except ServiceError as error:
                reasons.append(f"{family} does not locate users there: {error.reason}")
            else:
                return
        raise type(why)("/cellId", "; ".join(reasons)) from why

    def _is_measured(self, manifest: Manifest) -> bool:
        return self._stations is not None and _passes(self._stations.check, manifest)

    def _serves(self, engine: MateformerEngine, manifest: Manifest) -> bool:
        return _passes(partial(check_serves, engine.artifact, confidence=self._settings.confidence), manifest)

    def _index_before(self, before: Manifest, held: CellVersion | None, after: Contents) -> CellVersion | None:
        """The version before, with its indices. None if it is damaged. `after` holds most of its fingerprints."""
        if held is not None and held.manifest.digest == before.digest:
            return held
        try:
            with translate_store_errors():
                return CellVersion.assemble(read_contents(self.store, before, after), held)
        except (errors.CellUnreadable, errors.VersionNotFound, TooFewFingerprints):
            return None


def _passes(check: Callable[[Manifest], None], manifest: Manifest) -> bool:
    try:
        check(manifest)
    except ServiceError:
        return False
    return True


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


def _has_same_clocks(before: Manifest, after: Manifest) -> bool:
    """Whether errors of two versions compare. Users with worse clocks are located worse, and that is no fault."""
    first, second = before.cell, after.cell
    return (first.survey_sto, first.user_sto) == (second.survey_sto, second.user_sto)
