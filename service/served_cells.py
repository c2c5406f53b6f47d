"""The cells that the service can locate users in: loaded, checked and calibrated."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from models.artifact import Artifact
from reference_db.cell_version import CellVersion
from reference_db.database import ReferenceDatabase
from reference_db.errors import ReferenceDatabaseError, UnknownCell
from service import errors
from service.calibration import Calibration, calibrate, check_serves
from service.errors import ServiceError
from service.estimator import Estimator
from service.metrics import Metrics
from service.settings import Settings

_log = logging.getLogger("fingerpost.cells")


class ServedCell(NamedTuple):
    """A version of a cell and the artifact's errors in it; a request holds one from end to end."""

    version: CellVersion
    calibration: Calibration


class ServedCells:
    """Brings cells into service at their first use, each once however many ask for it meanwhile."""

    def __init__(
        self,
        database: ReferenceDatabase,
        artifact: Artifact,
        estimator: Estimator,
        settings: Settings,
        metrics: Metrics,
    ) -> None:
        self._database = database
        self._artifact = artifact
        self._estimator = estimator
        self._settings = settings
        self._metrics = metrics
        self._held: dict[str, ServedCell] = {}
        self._complaints: dict[str, str] = {}  # why a cell's newest version does not serve, told once
        self._arriving: dict[str, asyncio.Task[ServedCell]] = {}
        # Not the requests' threads: a cell that calibrates for seconds must not hold up the others.
        self._loaders = ThreadPoolExecutor(2, thread_name_prefix="cells")

    async def follow(self, period_s: float) -> None:
        """Looks for new versions of the cells in service, for ever, and puts each in the old one's place when ready.

        Ready is a version that is loaded, calibrated and warm. One that cannot be served leaves the old one in place.
        """
        while True:
            await asyncio.sleep(period_s)
            for cell_id, held in list(self._held.items()):
                try:
                    found = await asyncio.get_running_loop().run_in_executor(self._loaders, self._newer, cell_id, held)
                except ServiceError as error:
                    if self._complaints.get(cell_id) != (complaint := str(error)):
                        self._complaints[cell_id] = complaint
                        _log.warning("cell %s stays at version %s: %s", cell_id, held.version.version, complaint)
                    continue
                self._complaints.pop(cell_id, None)
                if found is not None:
                    self._held[cell_id] = found
                    _log.info("cell %s: version %s serves", cell_id, found.version.version)

    async def serve(self, cell_ids: Iterable[str]) -> Mapping[str, ServedCell | ServiceError]:
        """Each of these cells, or why it cannot be served."""
        cells: dict[str, ServedCell | ServiceError] = {}
        for cell_id in dict.fromkeys(cell_ids):
            try:
                cells[cell_id] = self._held.get(cell_id) or await self._arrival(cell_id)
            except ServiceError as error:
                cells[cell_id] = error
        return cells

    def close(self) -> None:
        self._loaders.shutdown(wait=True, cancel_futures=True)

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
        served = await asyncio.get_running_loop().run_in_executor(self._loaders, self._load, cell_id)
        self._held[cell_id] = served
        self._metrics.cells_held.set(len(self._held))
        return served

    def _newer(self, cell_id: str, held: ServedCell) -> ServedCell | None:
        """The store's version, warm, where it is not the one that is held."""
        version = self._read(self._database.reload, cell_id)
        if version is held.version:
            return None
        found = self._prepared(version)
        started = time.monotonic()
        encoded = self._estimator.warm(held.version, version)
        _log.info("cell %s: %d tiles warmed in %.1f s", cell_id, encoded, time.monotonic() - started)
        return found

    def _load(self, cell_id: str) -> ServedCell:
        return self._prepared(self._read(self._database.cell, cell_id))

    def _read(self, read: Callable[[str], CellVersion], cell_id: str) -> CellVersion:
        try:
            return read(cell_id)
        except UnknownCell as error:
            raise errors.CellNotFound("/cellId", "no such cell") from error
        except (ReferenceDatabaseError, OSError) as error:
            _log.exception("cell %s cannot be read", cell_id)
            raise errors.CellUnreadable("the cell's fingerprints cannot be read") from error

    def _prepared(self, version: CellVersion) -> ServedCell:
        cell_id = version.cell.cell_id
        check_serves(self._artifact, version, self._settings.confidence)
        calibration = Calibration.of_quality(version.manifest.quality, self._artifact.digest)
        if calibration is None or calibration.confidence != self._settings.confidence:
            _log.warning("cell %s was imported without this artifact: calibrating it now", cell_id)
            calibration = calibrate(self._artifact, self._estimator, version, self._settings)
        return ServedCell(version, calibration)
