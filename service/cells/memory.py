"""The cells in memory, within a budget."""

import logging
from collections import OrderedDict

from service.cells.drift import DriftWatch
from service.cells.served_cell import ServedCell
from service.telemetry.cell_metrics import Measured
from service.telemetry.metrics import Metrics

_log = logging.getLogger("fingerpost.cells")


class CellMemory:
    """Evicts the least recently used cells when others need their memory. Requests keep the cells that they hold.

    For one thread at a time.
    """

    def __init__(self, budget: int, metrics: Metrics, drift: DriftWatch) -> None:
        self._budget = budget
        self._metrics = metrics
        self._drift = drift
        self._held: OrderedDict[str, ServedCell] = OrderedDict()  # least recently used first
        self._bytes = 0

    def get(self, cell_id: str) -> ServedCell | None:
        return self._held.get(cell_id)

    def use(self, cell_id: str) -> ServedCell | None:
        """As `get`, and makes the cell the most recently used."""
        held = self._held.get(cell_id)
        if held is not None:
            self._held.move_to_end(cell_id)
        return held

    def all(self) -> dict[str, ServedCell]:
        """All cells, the least recently used first."""
        return dict(self._held)

    def put(self, cell_id: str, served: ServedCell) -> None:
        """Holds a cell as the most recently used one; evicts others for its memory, but never the last cell."""
        before = self._held.pop(cell_id, None)
        self._bytes += served.resident_bytes - (before.resident_bytes if before else 0)
        self._held[cell_id] = served
        self._show_ages(cell_id, _measured(served))
        self._drift.follow(cell_id, served)
        while self._bytes > self._budget and len(self._held) > 1:
            evicted_id, evicted = self._held.popitem(last=False)
            self._bytes -= evicted.resident_bytes
            self._show_ages(evicted_id, None)
            self._metrics.cells_evicted.inc()
            _log.info("cell %s: evicted from memory to make room", evicted_id)
        self._update_gauges()

    def drop(self, cell_id: str) -> bool:
        """Drops a cell; returns whether it was held."""
        dropped = self._held.pop(cell_id, None)
        if dropped is None:
            return False
        self._bytes -= dropped.resident_bytes
        self._show_ages(cell_id, None)
        self._drift.forget(cell_id)
        self._update_gauges()
        return True

    def _update_gauges(self) -> None:
        self._metrics.cells_held.set(len(self._held))
        self._metrics.cell_bytes.set(self._bytes)

    def _show_ages(self, cell_id: str, measured: Measured | None) -> None:
        if self._metrics.locations.cells is not None:
            self._metrics.locations.cells.hold(cell_id, measured)


def _measured(served: ServedCell) -> Measured | None:
    survey = served.version.manifest.quality.get("survey")
    if not isinstance(survey, dict):
        return None
    oldest, newest = survey.get("oldest"), survey.get("newest")
    if isinstance(oldest, float | int) and isinstance(newest, float | int):
        return Measured(oldest, newest)
    return None
