"""The registry of cells in service: loads them, calibrates them, and follows their versions in the store."""

import asyncio
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from reference_db.cell_version import CellVersion
from reference_db.errors import StoreMissing, StoreUnavailable
from reference_db.manifest import Manifest
from reference_db.stores.asking import ask_cells
from reference_db.stores.store import News, Store
from service import errors
from service.background import BlockingCalls
from service.cells.calibration import Calibration
from service.cells.descriptions import DescribedCell, DescribedCells
from service.cells.drift import DriftWatch
from service.cells.examiner import Examiner, LocalExaminer
from service.cells.faults import CellFaults, describe_fault, describe_service_fault
from service.cells.loading import Withdrawn, check_withdrawn, load_cell, load_successor, read_current_manifest
from service.cells.lookups import Lookups
from service.cells.memory import CellMemory
from service.cells.refusals import Refusals
from service.cells.served_cell import ServedCell, move_cell
from service.errors import ServiceError
from service.inference.admission import LANES, Lane
from service.inference.engine import MateformerEngine
from service.inference.workers import lower_thread_priority
from service.settings import Settings
from service.telemetry.metrics import Metrics

_log = logging.getLogger("fingerpost.cells")

_MOST_LOADING = 32  # cells that load or wait for a thread to load them
_LISTENING_S = 1.0  # longest wait for news


class ServedCells:
    """Loads each cell at its first use, once for all requests that wait for it, and replaces it by new versions.

    One engine serves all cells; `switch` replaces the engine. For the event loop's thread.
    """

    def __init__(
        self,
        store: Store,
        engine: MateformerEngine,
        settings: Settings,
        metrics: Metrics,
        examiner: Examiner | None = None,
    ) -> None:
        """Without an `examiner`, versions are examined in the threads of this process."""
        self.examiner = examiner or LocalExaminer(settings)
        self._store = store
        self._settings = settings
        self._metrics = metrics
        self._use(engine)
        self.drift = DriftWatch(metrics.drift)
        self._memory = CellMemory(settings.cell_memory_bytes, metrics, self.drift)
        self._refusals = Refusals()
        self.faults = CellFaults(metrics.faults)
        self.lookups = Lookups(store, self.faults, settings.waiting_limit)
        self.described = DescribedCells(store, self.lookups, self.faults)
        self._loading: dict[str, asyncio.Task[ServedCell]] = {}
        self._replacing: dict[str, asyncio.Task[None]] = {}
        self._notified: dict[str, CellVersion | None] = {}  # cells with a new version, and perhaps one like it
        self._versions_wait = False  # while `switch` runs, new versions wait
        self.store_reached = False  # since the start
        self._missing_told = False
        self._up_to_date = time.monotonic()
        metrics.stale_seconds.set_function(lambda: time.monotonic() - self._up_to_date)
        metrics.frame_bytes.set_function(lambda: self.engine.estimator.frame_bytes)
        metrics.feature_bytes.set_function(lambda: self.engine.estimator.feature_bytes)
        metrics.frame_pool.set_function(lambda: self.engine.estimator.frame_pool_bytes)
        for lane in LANES:
            metrics.dispatches.watch_queue(lane, partial(self._count_waiting, lane))
            metrics.tracks.dispatches.watch_queue(lane, partial(self._count_waiting_tracks, lane))
        # Threads of their own: a cell that calibrates for seconds must not delay requests.
        self._loaders = ThreadPoolExecutor(2, thread_name_prefix="cells")
        self._asking = BlockingCalls("versions")
        self._listening = BlockingCalls("news")
        self._replacers = ThreadPoolExecutor(2, thread_name_prefix="new-versions", initializer=lower_thread_priority)

    async def serve(self, deadlines: Mapping[str, float]) -> Mapping[str, ServedCell | ServiceError]:
        """Returns each of these cells, or why it cannot be served. All cells returned have the same engine.

        `deadlines`: by cell, until when requests wait for it, as a moment of `time.monotonic`.
        """
        found = {cell_id: self._memory.use(cell_id) for cell_id in deadlines}
        cells: dict[str, ServedCell | ServiceError] = {name: held for name, held in found.items() if held is not None}
        missing = [cell_id for cell_id in found if cell_id not in cells]
        if missing:
            loaded = await asyncio.gather(*(self._load_before(cell_id, deadlines[cell_id]) for cell_id in missing))
            cells.update(zip(missing, loaded, strict=True))
        self._metrics.cells_found(len(cells) - len(missing), len(missing))
        if missing and any(isinstance(cell, ServedCell) and cell.engine is not self.engine for cell in cells.values()):
            return await self.serve(deadlines)  # the engine was replaced while a cell was loading
        return cells

    def held(self, cell_id: str) -> CellVersion | None:
        """The version of a cell in memory; None where the cell is not in memory."""
        found = self._memory.get(cell_id)
        return None if found is None else found.version

    async def describe(self, cell_id: str, deadline: float) -> DescribedCell:
        """A cell as it is in memory, else as the store has it. Raises what `DescribedCells.describe` raises."""
        version = self.held(cell_id)
        if version is not None:
            return DescribedCell(version.manifest, version.frame)
        return await self.described.describe(cell_id, deadline)

    def calibration(self, manifest: Manifest) -> Calibration | None:
        """The errors of the engine in a version: as measured in memory, else as the manifest has them. For any thread.

        None where they were never measured.
        """
        engine, held = self.engine, self._memory.get(manifest.cell.cell_id)
        if held is not None and held.engine is engine and held.version.manifest.digest == manifest.digest:
            return held.calibration
        return Calibration.of_quality(manifest.quality, engine.artifact.digest)

    def refusal(self, cell_id: str, digest: str) -> str | None:
        """Why a version cannot replace the one in memory; None where it can. For any thread."""
        return self._refusals.complaint(cell_id, digest)

    def all_held(self) -> dict[str, CellVersion]:
        """The versions of all cells in memory."""
        return {cell_id: cell.version for cell_id, cell in self._memory.all().items()}

    def notify(self, cell_id: str, like: CellVersion | None = None) -> None:
        """Call when a cell has a new version. `like`: a version of the same fingerprints whose indices are built."""
        self.lookups.forget(cell_id)
        self.described.notify(cell_id)
        self._notified[cell_id] = like
        self._replace_notified()

    async def switch(self, engine: MateformerEngine) -> int:
        """Replaces the engine in service; returns how many cells in memory moved to it.

        Prepares every cell in memory for the new engine first: calibration, and the tiles in use encoded. Users being
        located stay with the old engine. Raises `ArtifactRefused` when a cell cannot be served; then nothing changes.
        """
        loop = asyncio.get_running_loop()
        ready: dict[str, ServedCell] = {}
        try:
            while missing := self._not_ready(ready):
                for cell_id, cell in missing.items():
                    work = partial(move_cell, cell, engine, self.examiner, self._settings)
                    ready[cell_id] = await loop.run_in_executor(self._replacers, work)
                # Without this the loop would not end while operators keep changing cells.
                self._versions_wait = True
            held = self._memory.all()
            for cell_id in held:
                self._memory.put(cell_id, ready[cell_id])
            self._use(engine)
            for cell in ready.values():
                engine.estimator.ahead.note_loaded(cell.version)
            self._refusals.forget_all()
        finally:
            self._versions_wait = False
            self._replace_notified()
        return len(held)

    def _count_waiting(self, lane: Lane) -> int:
        return self.engine.dispatcher.waiting(lane)

    def _count_waiting_tracks(self, lane: Lane) -> int:
        return 0 if self.engine.tracks is None else self.engine.tracks.waiting(lane)

    def _use(self, engine: MateformerEngine) -> None:
        self.engine = engine  # for any thread
        self._metrics.artifact.info(engine.labels)

    def _not_ready(self, ready: Mapping[str, ServedCell]) -> dict[str, ServedCell]:
        """The cells in memory whose version is not among the ready ones."""
        held = self._memory.all().items()
        return {name: cell for name, cell in held if name not in ready or ready[name].version is not cell.version}

    async def follow(self) -> None:
        """Asks the store once which cells in memory have new versions, because a notification may be lost.

        A new version replaces the old one when it is loaded, calibrated and warm; when it cannot be served the old one
        stays. Raises `StoreUnavailable` or `JobFailed`.
        """
        held = {cell_id: served.version.manifest.digest for cell_id, served in self._memory.all().items()}
        asked = held | dict.fromkeys(self.faults.all())
        if not asked and not await self._is_there():
            return
        newest, faults = await self._asking.run(ask_cells, self._store, self._store.newest, asked)
        self.store_reached = True
        if not any(isinstance(error, StoreUnavailable) for error in faults.values()):
            self._up_to_date = time.monotonic()
        for cell_id, error in faults.items():
            self.faults.record(cell_id, describe_fault(error))
        for cell_id, digest in newest.items():
            if digest == held.get(cell_id):
                self.faults.clear(cell_id)
            elif cell_id not in held or self._refusals.is_recent(cell_id, digest):
                self.faults.note_current(cell_id, digest)
            else:
                self.notify(cell_id, self._notified.get(cell_id))

    async def _is_there(self) -> bool:
        """False for a new database, whose directory the first import creates. Says so once. Raises as `follow`."""
        try:
            await self._asking.run(self._store.check)
        except StoreMissing as error:
            if self.store_reached:
                raise  # it was there: its file system may have gone
            if not self._missing_told:
                _log.warning("%s. Not ready until you create it, or import a cell with --database", error)
            self._missing_told = True
            return False
        return True

    async def listen(self, news: News) -> None:
        """Waits a moment for versions that other replicas publish. Raises `StoreUnavailable` or `JobFailed`."""
        for cell_id in await self._listening.run(news.changed, _LISTENING_S):
            self.notify(cell_id)

    def close(self) -> None:
        """Waits for work in progress, then stops the threads and the engine."""
        for executor in (self._loaders, self._replacers):
            executor.shutdown(wait=True, cancel_futures=True)
        self.lookups.close()
        self.engine.close()

    def _replace_notified(self) -> None:
        """Starts to replace the cells with new versions. A cell that is being loaded or replaced is replaced again
        afterwards: its task may have read the manifest before the newest version was published.
        """
        if self._versions_wait:
            return
        for cell_id in [name for name in self._notified if name not in self._replacing and name not in self._loading]:
            like, held = self._notified.pop(cell_id), self._memory.get(cell_id)
            if held is not None:
                task = self._replacing[cell_id] = asyncio.create_task(self._replace_cell(cell_id, held, like))
                task.add_done_callback(partial(self._finish_replacing, cell_id))

    def _finish_replacing(self, cell_id: str, task: asyncio.Task[None]) -> None:
        del self._replacing[cell_id]
        if not task.cancelled():
            self._replace_notified()

    async def _replace_cell(self, cell_id: str, held: ServedCell, like: CellVersion | None) -> None:
        load = partial(self._load_successor, cell_id, held, like)
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._replacers, load)
        except errors.ModelNotAllowed:
            if self._memory.drop(cell_id):
                _log.info("cell %s: dropped from memory, its model policy now excludes this model", cell_id)
            return
        except Withdrawn:
            if self._memory.drop(cell_id):
                _log.info("cell %s: dropped from memory, version %s was removed", cell_id, held.version.version)
            return
        except ServiceError as error:
            self._record_refusal(cell_id, held, error)
            return
        except Exception:  # on any error the old version serves on, and the other cells are followed
            self._metrics.background.failed("versions")
            _log.exception("cell %s: the new version cannot be loaded", cell_id)
            self._refusals.record(cell_id, held.version, "an unexpected error, see the log")
            return
        self._refusals.forget(cell_id)
        self.faults.clear(cell_id)
        if found is None or self._memory.get(cell_id) is None:  # it may have been evicted meanwhile
            return
        if found.engine is not self.engine:  # the engine was replaced meanwhile
            self.notify(cell_id, found.version)
            return
        self._memory.put(cell_id, found)
        _log.info("cell %s: version %s is in service", cell_id, found.version.version)

    def _record_refusal(self, cell_id: str, held: ServedCell, error: ServiceError) -> None:
        if isinstance(error, errors.StoreDown):
            return  # no fault of the version; `follow` reports the outage
        digest = self._refusals.record(cell_id, held.version, str(error))
        if isinstance(error, errors.CellUnreadable):
            self.faults.record(cell_id, describe_service_fault(error, digest))

    def _load_successor(self, cell_id: str, held: ServedCell, like: CellVersion | None) -> ServedCell | None:
        """The store's current version, warm; None where it is the one held.

        Raises `Withdrawn` where it cannot be served and the one held must not be served any more.
        """
        try:
            manifest = read_current_manifest(self._store, cell_id)
            self._refusals.note_tried(cell_id, manifest.digest)
            if manifest.digest == held.version.manifest.digest:
                return None
            return load_successor(self._store, manifest, held, like, self.examiner, self._settings)
        except ServiceError as error:
            check_withdrawn(self._store, held.version.manifest, error)
            raise

    async def _load_before(self, cell_id: str, deadline: float) -> ServedCell | ServiceError:
        try:
            task = self._loading.get(cell_id)
            if task is None:
                manifest = await self.lookups.find(cell_id, deadline)
                held = self._memory.use(cell_id)  # another request may have loaded it meanwhile
                if held is not None:
                    return held
                task = self._loading.get(cell_id) or self._start_loading(cell_id, manifest)
            return await self.lookups.wait_for(task, deadline)
        except ServiceError as error:
            return error

    def _start_loading(self, cell_id: str, manifest: Manifest) -> asyncio.Task[ServedCell]:
        if len(self._loading) >= _MOST_LOADING:
            raise errors.Congested(f"{len(self._loading)} cells are being loaded; try again later")
        task = self._loading[cell_id] = asyncio.create_task(self._load_cell(cell_id, manifest))
        task.add_done_callback(partial(self._finish_loading, cell_id, manifest.digest))
        return task

    def _finish_loading(self, cell_id: str, digest: str, task: asyncio.Task[ServedCell]) -> None:
        del self._loading[cell_id]
        if task.cancelled():
            return
        error = task.exception()  # retrieved, or asyncio logs it when no request waits any more
        if isinstance(error, errors.CellUnreadable | errors.StoreDown):
            self.lookups.remember(cell_id, error)
        if isinstance(error, errors.CellUnreadable):
            self.faults.record(cell_id, describe_service_fault(error, digest))
        elif error is None:
            self.faults.clear(cell_id)
        elif not isinstance(error, ServiceError):
            self._metrics.background.failed("versions")
            _log.error("cell %s cannot be loaded", cell_id, exc_info=error)
        self._replace_notified()

    async def _load_cell(self, cell_id: str, manifest: Manifest) -> ServedCell:
        loop = asyncio.get_running_loop()
        started, served = time.monotonic(), None
        while served is None or served.engine is not self.engine:  # the engine may be replaced meanwhile
            work = partial(load_cell, self._store, manifest, self.engine, self.examiner, self._settings)
            served = await loop.run_in_executor(self._loaders, work)
        self._metrics.cell_loaded(time.monotonic() - started)
        self._memory.put(cell_id, served)
        served.engine.estimator.ahead.note_loaded(served.version)
        return served
