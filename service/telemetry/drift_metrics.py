"""Metrics of the cells whose traffic no longer fits their calibration."""

from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

_MOST_NAMED = 20  # cells, so that the number of series stays small


class DriftMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._count = Gauge(
            "fingerpost_cells_drifted",
            "Cells whose traffic on this replica no longer fits their calibration.",
            registry=registry,
        )
        self._named = Gauge(
            "fingerpost_cell_drift",
            "1 for each cell whose traffic no longer fits its calibration, by what does not fit: signal (of the users, "
            f"to the fingerprints) or fixes (to the estimates). At most {_MOST_NAMED} cells.",
            ["cell", "sign"],
            registry=registry,
        )
        users = Counter(
            "fingerpost_drift_users_total",
            "Users located, by their use to the drift test: counted, or same_place (the place has counted recently).",
            ["use"],
            registry=registry,
        )
        self._counted, self._same_place = users.labels("counted"), users.labels("same_place")

    def note(self, counted: bool) -> None:
        (self._counted if counted else self._same_place).inc()

    def show(self, signs: Mapping[str, Sequence[str]]) -> None:
        """Shows what has drifted by cell, and no others."""
        self._count.set(len(signs))
        self._named.clear()
        for cell_id, drifted in sorted(signs.items())[:_MOST_NAMED]:
            for sign in drifted:
                self._named.labels(cell_id, sign).set(1)
