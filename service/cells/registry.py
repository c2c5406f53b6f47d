"""The cells that the service can locate users in, and the engine that does: loaded, calibrated, kept up to date."""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from reference_db.cell_version import CellVersion
from reference_db.contents import read_contents
from reference_db.errors import CorruptManifest, StoreUnavailable
from reference_db.manifest import Manifest
from reference_db.stores.store import News, Store
from service import errors
from service.cells.calibration import check_serves
from service.cells.memory import CellMemory
from service.cells.served_cell import ServedCell, moved, prepared
from service.cells.store_errors import translate_store_errors
from service.errors import ServiceError
from service.inference.engine import Engine
from service.inference.workers import lower_thread_priority
from service.settings import Settings
from service.telemetry.metrics import Metrics

_log = logging.getLogger("fingerpost.cells")

_LISTENING_S = 1.0  # how long a stop may have to wait for the listener
_RETRIED_S = 60.0  # after so long a version that did not serve is tried again


class _Refused(NamedTuple):
    number: int
    complaint: str
    at: float  # time.monotonic


class ServedCells:
    """Brings cells into service at their first use, each once however many ask for it meanwhile.

    One engine serves them all; `switch` puts another one into its place. For the event loop's thread.
    """

    def __init__(self, store: Store, engine: Engine, settings: Settings, metrics: Metrics) -> None:
        self._store = store
        self._settings = settings
        self._metrics = metrics
        self._use(engine)
        self._memory = CellMemory(settings.cell_memory_bytes, metrics)
        self._refused: dict[str, _Refused] = {}  # what became of the newest version of a cell that does not serve
        self._arriving: dict[str, asyncio.Task[ServedCell]] = {}
        self._tried: dict[str, int] = {}  # the number of the last version of a cell that was to replace one
        self._replacing: dict[str, asyncio.Task[None]] = {}
        self._told: dict[str, CellVersion | None] = {}  # cells said to have a new version; perhaps one like it
        self._news = asyncio.Event()
        self._versions_wait = False  # what is told of is looked at later
        self._up_to_date = time.monotonic()
        metrics.stale_seconds.set_function(lambda: time.monotonic() - self._up_to_date)
        metrics.frame_bytes.set_function(lambda: self.engine.estimator.frame_bytes)
        metrics.frame_pool.set_function(lambda: self.engine.estimator.frame_pool_bytes)
        metrics.queues(lambda lane: self.engine.dispatcher.waiting(lane))
        # Not the requests' threads: a cell that calibrates for seconds must not hold up the others.
        self._loaders = ThreadPoolExecutor(2, thread_name_prefix="cells")
        self._listener = ThreadPoolExecutor(1, thread_name_prefix="news")
        self._replacers = ThreadPoolExecutor(2, thread_name_prefix="new-versions", initializer=lower_thread_priority)

    async def serve(self, cell_ids: Iterable[str]) -> Mapping[str, ServedCell | ServiceError]:
        """Each of these cells, or why it cannot be served; one engine serves them all."""
        cells: dict[str, ServedCell | ServiceError] = {}
        missing = 0
        for cell_id in dict.fromkeys(cell_ids):
            held = self._memory.used(cell_id)
            if held is not None:
                cells[cell_id] = held
                continue
            missing += 1
            try:
                cells[cell_id] = await self._arrival(cell_id)
            except ServiceError as error:
                cells[cell_id] = error
        self._metrics.cells_found(len(cells) - missing, missing)
        if missing and any(isinstance(cell, ServedCell) and cell.engine is not self.engine for cell in cells.values()):
            return await self.serve(cells)  # another one came while a cell was waited for
        return cells

    def held(self, cell_id: str) -> CellVersion | None:
        """The version that serves users now, if one does."""
        found = self._memory.get(cell_id)
        return None if found is None else found.version

    def tell(self, cell_id: str, like: CellVersion | None = None) -> None:
        """There is a new version of a cell; `like` is one of the same fingerprints, its indices ready."""
        self._told[cell_id] = like
        self._news.set()

    async def switch(self, engine: Engine, *, force: bool) -> int:
        """Puts an engine into the place of the one that serves, and says how many cells went with it.

        At once, when every cell in memory is calibrated for it and the tiles in use are encoded; whoever is being
        located then is so by the old one. Raises `ArtifactRefused` where a cell cannot be, or, unless forced, would be
        located in far worse; then nothing has changed.
        """
        loop = asyncio.get_running_loop()
        ready: dict[str, ServedCell] = {}
        try:
            while missing := self._not_ready(ready):
                for cell_id, cell in missing.items():
                    work = partial(moved, cell, engine, self._settings, force=force)
                    ready[cell_id] = await loop.run_in_executor(self._replacers, work)
                # There would be no end to it where operators change cells all the while.
                self._versions_wait = True
            held = self._memory.all()
            for cell_id in held:
                self._memory.put(cell_id, ready[cell_id])
            self._use(engine)
            self._refused.clear()  # by the one before
        finally:
            self._versions_wait = False
            self._news.set()
        return len(held)

    def _use(self, engine: Engine) -> None:
        self.engine = engine  # for any thread
        self._metrics.artifact.info(engine.labels)

    def _not_ready(self, ready: Mapping[str, ServedCell]) -> dict[str, ServedCell]:
        """The cells in memory of which there is not yet this version among those that are ready."""
        held = self._memory.all().items()
        return {name: cell for name, cell in held if name not in ready or ready[name].version is not cell.version}

    async def follow(self, period_s: float) -> None:
        """Puts new versions of the cells in service into their old ones' places, for ever.

        It looks for them when it is told, and by itself every `period_s` seconds, because it may not be told. A version
        takes its place when it is loaded, calibrated and warm; one that cannot be served leaves the old one where it
        is.
        """
        due = time.monotonic() + period_s
        while True:
            try:
                async with asyncio.timeout(max(0.0, due - time.monotonic())):
                    await self._news.wait()
            except TimeoutError:
                await self._reconcile()
                due = time.monotonic() + period_s
            self._news.clear()
            if self._versions_wait:
                continue
            told, self._told = self._told, {}
            for cell_id, like in told.items():
                self._replace(cell_id, like)

    async def listen(self, news: News) -> None:
        """Hears of new versions as soon as a replica publishes them, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                for cell_id in await loop.run_in_executor(self._listener, news.changed, _LISTENING_S):
                    self.tell(cell_id)
            except StoreUnavailable:
                await asyncio.sleep(_LISTENING_S)  # `follow` tells of it

    async def _reconcile(self) -> None:
        """Asks the store which cells have changed, whatever was told."""
        held = {cell_id: served.version.manifest.number for cell_id, served in self._memory.all().items()}
        loop = asyncio.get_running_loop()
        try:
            newer = await loop.run_in_executor(self._replacers, self._newer, held)
        except StoreUnavailable as error:
            _log.warning("the reference database cannot be asked for new versions: %s", error)
            return
        self._up_to_date = time.monotonic()
        for cell_id in newer:
            self._told.setdefault(cell_id, None)

    def _newer(self, held: Mapping[str, int]) -> list[str]:
        """The cells whose newest version is another one, unless it has been tried just now."""
        newer = []
        for cell_id, number in held.items():
            try:
                newest = self._store.newest(cell_id)
            except CorruptManifest as error:  # one damaged cell must not keep the others from being followed
                _log.warning("%s", error)
                continue
            refused = self._refused.get(cell_id)
            tried = refused is not None and refused.number == newest and time.monotonic() - refused.at < _RETRIED_S
            if newest != number and not tried:
                newer.append(cell_id)
        return newer

    def close(self) -> None:
        for executor in (self._loaders, self._replacers, self._listener):
            executor.shutdown(wait=True, cancel_futures=True)
        self.engine.close()

    def _replace(self, cell_id: str, like: CellVersion | None) -> None:
        """Begins to put the newest version of a cell into the place of the one that is held."""
        held = self._memory.get(cell_id)
        if held is None:
            return
        if cell_id in self._replacing:
            # What that one loads may be older than what was told of now.
            self._replacing[cell_id].add_done_callback(lambda _: self.tell(cell_id, like))
            return
        task = self._replacing[cell_id] = asyncio.create_task(self._replaced(cell_id, held, like))
        task.add_done_callback(lambda _: self._replacing.pop(cell_id))

    async def _replaced(self, cell_id: str, held: ServedCell, like: CellVersion | None) -> None:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._replacers, self._successor, cell_id, held, like)
        except errors.ModelNotAllowed:
            if self._memory.drop(cell_id):
                _log.info("cell %s leaves memory: its policy is another network", cell_id)
            return
        except ServiceError as error:
            self._refuse(cell_id, held, error)
            return
        except Exception:  # whatever it is, the old version serves, and the other cells are followed
            _log.exception("cell %s stays at version %s", cell_id, held.version.version)
            return
        self._refused.pop(cell_id, None)
        if found is None or self._memory.get(cell_id) is None:  # it may have left meanwhile
            return
        if found.engine is not self.engine:  # another one came meanwhile
            self.tell(cell_id, found.version)
            return
        self._memory.put(cell_id, found)
        _log.info("cell %s: version %s serves", cell_id, found.version.version)

    def _refuse(self, cell_id: str, held: ServedCell, error: ServiceError) -> None:
        if isinstance(error, errors.StoreDown):
            return  # says nothing of the version, and is told of by `_reconcile`
        complaint, number = str(error), self._tried.get(cell_id, 0)
        before = self._refused.get(cell_id)
        if before is None or before[:2] != (number, complaint):
            _log.warning("cell %s stays at version %s: %s", cell_id, held.version.version, complaint)
        self._refused[cell_id] = _Refused(number, complaint, time.monotonic())

    def _successor(self, cell_id: str, held: ServedCell, like: CellVersion | None) -> ServedCell | None:
        """The store's version, warm, where it is not the one that is held."""
        manifest = self._current(cell_id)
        self._tried[cell_id] = manifest.number
        if manifest.digest == held.version.manifest.digest:
            return None
        engine = held.engine
        version = self._loaded(manifest, engine, held.version, like or held.version)
        found = prepared(version, engine, self._settings)
        started = time.monotonic()
        encoded = engine.estimator.warm(found.version, engine.estimator.in_use(held.version))
        _log.info("cell %s: %d tiles warmed in %.1f s", cell_id, encoded, time.monotonic() - started)
        return found

    async def _arrival(self, cell_id: str) -> ServedCell:
        task = self._arriving.get(cell_id)
        if task is None:
            task = self._arriving[cell_id] = asyncio.create_task(self._bring(cell_id))
            task.add_done_callback(lambda done: self._arrived(cell_id, done))
        # Shielded: a client that hangs up must not cancel what others wait for.
        return await asyncio.shield(task)

    def _arrived(self, cell_id: str, task: asyncio.Task[ServedCell]) -> None:
        del self._arriving[cell_id]
        if not task.cancelled():
            task.exception()  # marks it as seen, for when nobody waits any more

    async def _bring(self, cell_id: str) -> ServedCell:
        loop = asyncio.get_running_loop()
        started = time.monotonic()
        served = await loop.run_in_executor(self._loaders, self._first, cell_id, self.engine)
        while served.engine is not self.engine:  # another one came meanwhile
            served = await loop.run_in_executor(self._loaders, self._first, cell_id, self.engine)
        self._metrics.cell_loaded(time.monotonic() - started)
        self._memory.put(cell_id, served)
        return served

    def _first(self, cell_id: str, engine: Engine) -> ServedCell:
        with translate_store_errors():
            return prepared(self._loaded(self._current(cell_id), engine, None, None), engine, self._settings)

    def _current(self, cell_id: str) -> Manifest:
        with translate_store_errors():
            manifest = self._store.current(cell_id)
        if manifest is None:
            raise errors.CellNotFound("/cellId", "no such cell")
        return manifest

    def _loaded(
        self, manifest: Manifest, engine: Engine, held: CellVersion | None, like: CellVersion | None
    ) -> CellVersion:
        """A version with segments from the store or the version held, its indices from `like` as far as they go."""
        check_serves(engine.artifact, manifest, self._settings.confidence)
        with translate_store_errors():
            contents = read_contents(self._store, manifest, None if held is None else held.contents)
        return CellVersion.assemble(contents, like)
