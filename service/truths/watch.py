"""Watches whether the last truths of each cell contradict what the service states."""

from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from reference_db.stores.asking import ask_cells
from reference_db.truths import TruthCounts, TruthGroup
from service.cells.registry import ServedCells
from service.telemetry.truth_metrics import TruthMetrics
from service.truths.coverage import contradicts, since
from service.updates.publisher import Publisher

PERIOD_S = 60.0
_WINDOW = timedelta(days=30)
_CERTAINTY = 0.999  # an operator looks at many cells, again and again
_MOST_WATCHED = 1000  # cells whose truths this replica took


class CoverageWatch:
    """For the event loop's thread. Watches the cells in memory, and those whose truths this replica has counted."""

    def __init__(self, publisher: Publisher, served: ServedCells, metrics: TruthMetrics) -> None:
        self._publisher = publisher
        self._served = served
        self._metrics = metrics
        self._counted: OrderedDict[str, None] = OrderedDict()  # the last first to go
        self._contradicted: set[str] = set()

    def contradicts(self, cell_id: str) -> bool:
        """Whether the last truths of a watched cell contradict what the service states. False for other cells."""
        return cell_id in self._contradicted

    async def look(self, cell_id: str) -> None:
        """Looks at a cell whose truths have just been counted. Raises what the store raises."""
        self._counted[cell_id] = None
        self._counted.move_to_end(cell_id)
        if len(self._counted) > _MOST_WATCHED:
            self._counted.popitem(last=False)
        self._judge(cell_id, await self._publisher.read(self._publisher.store.read_truths, cell_id))
        self._metrics.show_contradicted(self._contradicted)

    async def run_job(self) -> None:
        """Looks at all watched cells: other replicas count truths too, and old ones leave the window."""
        cell_ids = dict.fromkeys([*self._served.all_held(), *self._counted])
        store = self._publisher.store
        counts, _ = await self._publisher.read(ask_cells, store, store.read_truths, list(cell_ids))
        self._contradicted &= cell_ids.keys()
        for cell_id, found in counts.items():
            self._judge(cell_id, found)
        self._metrics.show_contradicted(self._contradicted)

    def _judge(self, cell_id: str, counts: Mapping[TruthGroup, TruthCounts]) -> None:
        recent = since(counts, (datetime.now(UTC) - _WINDOW).date())
        if contradicts(recent, _CERTAINTY):
            self._contradicted.add(cell_id)
        else:
            self._contradicted.discard(cell_id)
