"""Metrics of surveyed truths: how many answers hold them, and where that contradicts what was stated."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge

from service.telemetry.cell_metrics import CellMetrics

_OUTCOMES = ("inside", "outside", "repeated", "refused")
_MOST_NAMED = 20  # cells, so that the number of series stays small


class TruthMetrics:
    """`cells`: None where no cell gets series of its own."""

    def __init__(self, registry: CollectorRegistry, cells: CellMetrics | None) -> None:
        self._cells = cells
        self._truths = Counter(
            "fingerpost_truths_total",
            "Surveyed truths that operators sent, by outcome: inside or outside the ellipse of the answer, repeated "
            "(counted before), or refused.",
            ["outcome"],
            registry=registry,
        )
        self._contradicted = Gauge(
            "fingerpost_cell_coverage_contradicted",
            "1 for each cell whose surveyed truths of the last 30 days contradict the stated confidence: fewer lie "
            f"inside than stated, by more than chance explains. At most {_MOST_NAMED} cells.",
            ["cell"],
            registry=registry,
        )
        for outcome in _OUTCOMES:
            self._truths.labels(outcome)

    def note(self, cell_id: str, outcomes: Iterable[str]) -> None:
        """Counts the truths of a request by their outcomes."""
        for outcome in outcomes:
            self._truths.labels(outcome).inc()
            if self._cells is not None and outcome in ("inside", "outside"):
                self._cells.judge(cell_id, outcome)

    def show_contradicted(self, cell_ids: Iterable[str]) -> None:
        """Shows these cells, and no others."""
        self._contradicted.clear()
        for cell_id in sorted(cell_ids)[:_MOST_NAMED]:
            self._contradicted.labels(cell_id).set(1)
