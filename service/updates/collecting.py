"""Removes old versions of cells that the installation no longer keeps."""

import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from reference_db.errors import StoreForbidden
from reference_db.history import HistoryPolicy, collect_history
from reference_db.stores.store import Removal
from service.background import JobFailed
from service.errors import CellUnreadable, StoreDown
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.updates.error_map import ErrorMaps
from service.updates.publisher import Publisher

_log = logging.getLogger("fingerpost.updates")


class Collected(NamedTuple):
    """What was removed of each cell, and the cells whose versions are damaged. Cells with nothing to remove are left
    out.
    """

    removals: dict[str, Removal]
    unreadable: list[str]


class Collector:
    """Removes the versions that the settings no longer keep, one cell after the other."""

    def __init__(self, publisher: Publisher, error_maps: ErrorMaps, settings: Settings, metrics: Metrics) -> None:
        self._publisher = publisher
        self._error_maps = error_maps
        self._metrics = metrics
        self._policy = HistoryPolicy(versions=settings.history_versions or None, max_age_s=settings.history_max_age_s)

    async def collect(self, cell_ids: Iterable[str], now: datetime, *, dry_run: bool = False) -> Collected:
        """Raises `StoreDown`."""
        collected = Collected({}, [])
        for cell_id in cell_ids:
            arguments = (self._publisher.store, cell_id, self._policy, now)
            try:
                removal = await self._publisher.read(collect_history, *arguments, dry_run=dry_run)
            except CellUnreadable as error:
                _log.warning("cell %s keeps its old versions: %s", cell_id, error)
                collected.unreadable.append(cell_id)
                continue
            if removal.versions:
                collected.removals[cell_id] = removal
                if not dry_run:
                    self._report(cell_id, removal)
        return collected

    async def run_job(self) -> None:
        """Collects the versions of all cells. Each replica runs this job; each version is removed once.

        A replica that may not write to the reference database leaves this to the others. Raises `StoreDown`, or
        `JobFailed` if versions of a cell are damaged.
        """
        cell_ids = await self._publisher.read(self._publisher.store.cells)
        try:
            collected = await self.collect(cell_ids, datetime.now(UTC))
        except StoreDown as error:
            if not isinstance(error.__cause__, StoreForbidden):
                raise
            collected = Collected({}, [])
        await self._error_maps.drop_removed()
        if collected.unreadable:
            raise JobFailed(
                f"{len(collected.unreadable)} cells keep their old versions, among them {collected.unreadable[0]}"
            )

    def _report(self, cell_id: str, removal: Removal) -> None:
        first, last = removal.versions[0], removal.versions[-1]
        count = len(removal.versions)
        _log.info("cell %s: %d old versions removed (%d to %d), %d bytes", cell_id, count, first, last, removal.bytes)
        self._metrics.versions_removed(count, removal.bytes)
