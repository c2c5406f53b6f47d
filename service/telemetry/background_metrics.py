"""Metrics of the work in the background."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge


class BackgroundMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._failures = Counter(
            "fingerpost_background_failures_total",
            "Rounds of work in the background that failed or took too long, by task.",
            ["task"],
            registry=registry,
        )
        self._age = Gauge(
            "fingerpost_background_age_seconds",
            "Time since the last successful round of a task in the background, at first since its start.",
            ["task"],
            registry=registry,
        )
        self._period = Gauge(
            "fingerpost_background_period_seconds",
            "Pause between two rounds of a task in the background.",
            ["task"],
            registry=registry,
        )

    def watch(self, task: str, period_s: float, age: Callable[[], float]) -> None:
        """Shows a task from now on. Calls `age` for the seconds since its last success whenever Prometheus scrapes."""
        self._failures.labels(task)
        self._period.labels(task).set(period_s)
        self._age.labels(task).set_function(age)

    def failed(self, task: str) -> None:
        self._failures.labels(task).inc()
