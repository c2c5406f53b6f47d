"""The cells in which weighted kNN locates users: loaded and calibrated at their first use."""

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from reference_db.cell_version import CellVersion
from reference_db.contents import read_contents
from reference_db.manifest import Manifest
from reference_db.stores.store import Store
from service.cells.knn_calibration import KnnCalibration, check_compares
from service.cells.registry import ServedCells
from service.cells.store_errors import translate_store_errors
from service.errors import CellTooSmall, VersionNotFound
from service.inference.knn_engine import KnnEngine
from service.inference.workers import lower_thread_priority
from service.settings import Settings
from service.telemetry.knn_metrics import KnnMetrics

_MEMORY_SHARE = 4  # of the memory that cells may take, a fourth part is for these cells, besides


class KnnCell(NamedTuple):
    """A version of a cell, and the errors that weighted kNN makes there. A request holds one from start to end."""

    version: CellVersion
    engine: KnnEngine
    calibration: KnnCalibration


class _Held(NamedTuple):
    digest: str  # of the manifest
    found: KnnCell | CellTooSmall

    @property
    def bytes(self) -> int:
        return self.found.version.resident_bytes if isinstance(self.found, KnnCell) else 0


class KnnCells:
    """Requests for one version share its preparation. A version that Mateformer serves too is not loaded twice.

    For the event loop's thread.
    """

    def __init__(
        self, store: Store, served: ServedCells, engine: KnnEngine, settings: Settings, metrics: KnnMetrics
    ) -> None:
        self._store = store
        self._served = served
        self._engine = engine
        self._settings = settings
        self._metrics = metrics
        self._held: OrderedDict[str, _Held] = OrderedDict()  # by cell, least recently used first
        self._preparing: dict[str, asyncio.Task[_Held]] = {}  # by digest
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="knn-cells", initializer=lower_thread_priority)

    async def serve(self, cell_id: str, deadline: float) -> KnnCell:
        """Returns a cell as it is now. `deadline` is a moment of `time.monotonic`.

        Raises what `ServedCells.describe` raises; `ModelNotAllowed` or `CellTooSmall`; `CellUnreadable` or `StoreDown`;
        `Congested` or `TooLate`.
        """
        while True:
            manifest = (await self._served.describe(cell_id, deadline)).version
            check_compares(manifest, self._settings.confidence)
            held = self._held.get(cell_id)
            if held is None or held.digest != manifest.digest:
                task = self._preparing.get(manifest.digest) or self._start_preparing(manifest)
                try:
                    held = await self._served.lookups.wait_for(task, deadline)
                except VersionNotFound:  # removed meanwhile, together with its cell or for a newer version
                    self._served.described.notify(cell_id)
                    continue
            else:
                self._held.move_to_end(cell_id)
            if isinstance(held.found, CellTooSmall):
                raise held.found.__copy__()
            return held.found

    async def follow(self) -> None:
        """Follows the descriptions of cells, and drops the versions that are not known to be current any more.

        Raises what `DescribedCells.follow` raises.
        """
        await self._served.described.follow()
        for cell_id, held in list(self._held.items()):
            served, described = self._served.held(cell_id), self._served.described.held(cell_id)
            known = {one.digest for one in (served and served.manifest, described and described.version) if one}
            if held.digest not in known:
                del self._held[cell_id]
        self._metrics.cells.set(len(self._held))

    def close(self) -> None:
        """Waits for work in progress, then stops the threads and the engine."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._engine.close()

    def _start_preparing(self, manifest: Manifest) -> "asyncio.Task[_Held]":
        task = self._preparing[manifest.digest] = asyncio.create_task(self._prepare(manifest))
        task.add_done_callback(partial(self._finish, manifest.digest))
        return task

    def _finish(self, digest: str, task: "asyncio.Task[_Held]") -> None:
        del self._preparing[digest]
        if not task.cancelled():
            task.exception()  # retrieved, or asyncio logs it when no request waits any more

    async def _prepare(self, manifest: Manifest) -> _Held:
        cell_id = manifest.cell.cell_id
        version = self._served.held(cell_id)
        if version is not None and version.manifest.digest != manifest.digest:
            version = None
        work = partial(self._measure, manifest, version)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, work)
        held = self._held[cell_id] = _Held(manifest.digest, found)
        self._held.move_to_end(cell_id)
        budget = self._settings.cell_memory_bytes // _MEMORY_SHARE
        while len(self._held) > 1 and sum(one.bytes for one in self._held.values()) > budget:
            self._held.popitem(last=False)
        self._metrics.cells.set(len(self._held))
        return held

    def _measure(self, manifest: Manifest, version: CellVersion | None) -> KnnCell | CellTooSmall:
        """Blocking: seconds."""
        if version is None:
            with translate_store_errors():
                version = CellVersion.assemble(read_contents(self._store, manifest, None))
        try:
            return KnnCell(version, self._engine, KnnCalibration.measure(version, self._settings))
        except CellTooSmall as error:
            return error.__copy__()
