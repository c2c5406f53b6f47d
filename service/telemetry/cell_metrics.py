"""Metrics by cell, for the first cells in which a user is located."""

import time
from collections.abc import Iterator
from functools import cache
from threading import Lock
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Summary
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

OTHER_CELLS = "other cells"  # cell ids hold no spaces


class Measured(NamedTuple):
    """When the oldest and the newest fingerprint of a cell were measured, in Unix seconds."""

    oldest: float
    newest: float


class CellMetrics:
    """Series of the first `most` cells in which a user was located, and one series for all other cells.

    A cell gets a series only once a user was located in it: requests for unknown cells must not use up the series.
    """

    def __init__(self, registry: CollectorRegistry, most: int) -> None:
        self._most = most
        self._named: set[str] = set()
        self._measured: dict[str, Measured] = {}
        self._lock = Lock()  # worker threads record batches, and another thread answers Prometheus
        users = Counter(
            "fingerpost_cell_locations_total",
            "Users, by cell and whether they were located.",
            ["cell", "outcome"],
            registry=registry,
        )
        stated = Summary(
            "fingerpost_cell_stated_accuracy_meters",
            "Accuracy of users of a cell: the major half axis of the ellipse at FINGERPOST_CONFIDENCE, or at the "
            "nearest confidence that is known.",
            ["cell"],
            registry=registry,
        )
        truths = Counter(
            "fingerpost_cell_truths_total",
            "Surveyed truths of a cell, by outcome: inside or outside the ellipse of the answer.",
            ["cell", "outcome"],
            registry=registry,
        )
        registry.register(_Ages(self))
        self._users = cache(users.labels)
        self._stated = cache(stated.labels)
        self._truths = cache(truths.labels)

    def note(self, cell_id: str | None, accuracy: float | None) -> None:
        """Counts a user. `accuracy`: the stated radius in metres, None for a user who was not located."""
        cell = self._series(cell_id, accuracy is not None)
        self._users(cell, "failed" if accuracy is None else "located").inc()
        if accuracy is not None:
            self._stated(cell).observe(accuracy)

    def judge(self, cell_id: str, outcome: str) -> None:
        """Counts a surveyed truth of a cell in which the service has just located its user."""
        self._truths(self._series(cell_id, True), outcome).inc()

    def hold(self, cell_id: str, measured: Measured | None) -> None:
        """Shows the ages of a cell's fingerprints from now on. None: they have no times, or the cell left memory."""
        with self._lock:
            if measured is None:
                self._measured.pop(cell_id, None)
            else:
                self._measured[cell_id] = measured

    def measured(self) -> dict[str, Measured]:
        """Returns the cells in memory that have series of their own."""
        with self._lock:
            return {cell: measured for cell, measured in self._measured.items() if cell in self._named}

    def _series(self, cell_id: str | None, located: bool) -> str:
        if cell_id is not None and cell_id not in self._named and located:
            with self._lock:
                if len(self._named) < self._most:
                    self._named.add(cell_id)
        return cell_id if cell_id in self._named and cell_id is not None else OTHER_CELLS


class _Ages(Collector):
    """Computes ages when Prometheus asks. A cell that leaves memory leaves no series behind."""

    def __init__(self, cells: CellMetrics) -> None:
        self._cells = cells

    def collect(self) -> Iterator[GaugeMetricFamily]:
        ages = GaugeMetricFamily(
            "fingerpost_cell_fingerprint_age_seconds",
            "Time since the oldest and the newest fingerprint of a cell in memory were measured.",
            labels=["cell", "fingerprint"],
        )
        now = time.time()
        for cell_id, measured in self._cells.measured().items():
            for name, at in measured._asdict().items():
                ages.add_metric([cell_id, name], now - at)
        yield ages
