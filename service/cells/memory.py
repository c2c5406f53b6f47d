"""The cells in memory, within a budget."""

import logging
from collections import OrderedDict

from service.cells.served_cell import ServedCell
from service.telemetry.metrics import Metrics

_log = logging.getLogger("fingerpost.cells")


class CellMemory:
    """Those not used for longest leave when the others need their memory; requests keep what they hold until they end.

    For one thread at a time.
    """

    def __init__(self, budget: int, metrics: Metrics) -> None:
        self._budget = budget
        self._metrics = metrics
        self._held: OrderedDict[str, ServedCell] = OrderedDict()  # least recently used first
        self._bytes = 0

    def get(self, cell_id: str) -> ServedCell | None:
        return self._held.get(cell_id)

    def used(self, cell_id: str) -> ServedCell | None:
        """As `get`; from now on it is the most recently used."""
        held = self._held.get(cell_id)
        if held is not None:
            self._held.move_to_end(cell_id)
        return held

    def all(self) -> dict[str, ServedCell]:
        """The least recently used first."""
        return dict(self._held)

    def put(self, cell_id: str, served: ServedCell) -> None:
        """Holds a cell, as the most recently used; for its memory others leave, but never the last one."""
        before = self._held.pop(cell_id, None)
        self._bytes += served.version.resident_bytes - (before.version.resident_bytes if before else 0)
        self._held[cell_id] = served
        while self._bytes > self._budget and len(self._held) > 1:
            left, gone = self._held.popitem(last=False)
            self._bytes -= gone.version.resident_bytes
            self._metrics.cells_evicted.inc()
            _log.info("cell %s leaves memory", left)
        self._count()

    def drop(self, cell_id: str) -> bool:
        """Whether the cell was there."""
        gone = self._held.pop(cell_id, None)
        if gone is None:
            return False
        self._bytes -= gone.version.resident_bytes
        self._count()
        return True

    def _count(self) -> None:
        self._metrics.cells_held.set(len(self._held))
        self._metrics.cell_bytes.set(self._bytes)
