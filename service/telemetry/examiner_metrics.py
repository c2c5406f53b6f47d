"""Metrics of the process that examines versions of cells."""

from prometheus_client import CollectorRegistry, Counter


class ExaminerMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.starts = Counter(
            "fingerpost_examiner_starts_total",
            "Starts of the process that examines versions of cells: when it is first needed, and again after it was "
            "idle or has ended.",
            registry=registry,
        )
        self.failures = Counter(
            "fingerpost_examiner_failures_total",
            "Times that this process could not be started, or ended while it was needed: it was killed, or took too "
            "much memory. The changes that it worked on were refused.",
            registry=registry,
        )
