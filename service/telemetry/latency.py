"""Durations of the stages of a location, from the histograms that Prometheus scrapes."""

from collections import defaultdict
from typing import get_args

from prometheus_client import CollectorRegistry

from fingerpost.wire_health import Latency, LatencyHistogram
from service.telemetry.stopwatch import Stage

_STAGES = "fingerpost_stage_duration_seconds"
_QUEUE = "fingerpost_queue_duration_seconds"
_REQUESTS = "fingerpost_request_duration_seconds"
_ROUTES = ("/locate", "/locate/batch", "/locate/trajectory")
_FIRST, *_REST = get_args(Stage)
ORDER = (_FIRST, "queue", *_REST, *_ROUTES)


def measure_latency(registry: CollectorRegistry) -> Latency:
    """Returns the histograms of the registry that are not empty."""
    found: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for family in registry.collect():
        if family.name in (_STAGES, _QUEUE, _REQUESTS):
            for sample in family.samples:
                if sample.name.endswith("_bucket"):
                    labels = sample.labels
                    stage = labels.get("stage") or labels.get("route") or "queue"
                    found[stage].append((float(labels["le"]), int(sample.value)))
    histograms = [
        LatencyHistogram(
            stage=stage,
            up_to=[None if bound == float("inf") else bound for bound, _ in buckets],
            counts=[number for _, number in buckets],
        )
        for stage in ORDER
        if (buckets := found.get(stage)) and buckets[-1][1]
    ]
    return Latency(histograms=histograms)
