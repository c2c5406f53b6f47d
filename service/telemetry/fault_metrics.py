"""Metrics of the cells that cannot be read or followed."""

from collections import Counter
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Gauge

_CAUSES = ("CELL_UNREADABLE", "STORE_UNAVAILABLE")
_MOST_NAMED = 20  # cells, so that the number of series stays small


class FaultMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._count = Gauge(
            "fingerpost_cells_at_fault",
            "Cells whose current version cannot be read, by cause: CELL_UNREADABLE (damaged) or STORE_UNAVAILABLE "
            "(their part of the reference database cannot be reached).",
            ["cause"],
            registry=registry,
        )
        self._named = Gauge(
            "fingerpost_cell_fault",
            f"1 for each cell whose current version cannot be read, at most {_MOST_NAMED} cells.",
            ["cell", "cause"],
            registry=registry,
        )
        self.show({})

    def show(self, faults: Mapping[str, str]) -> None:
        """Shows the causes of faults by cell, and no others."""
        counts = Counter(faults.values())
        for cause in {*_CAUSES, *counts}:
            self._count.labels(cause).set(counts[cause])
        self._named.clear()
        for cell_id, cause in sorted(faults.items())[:_MOST_NAMED]:
            self._named.labels(cell_id, cause).set(1)
