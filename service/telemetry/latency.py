"""Durations of the stages of a location, from the histograms that Prometheus scrapes."""

from collections import defaultdict
from typing import Annotated, get_args

from prometheus_client import CollectorRegistry
from pydantic import Field

from fingerpost.wire_model import WireModel
from service.telemetry.stopwatch import Stage

_STAGES = "fingerpost_stage_duration_seconds"
_QUEUE = "fingerpost_queue_duration_seconds"
_REQUESTS = "fingerpost_request_duration_seconds"
_ROUTES = ("/locate", "/locate/batch", "/locate/trajectory")


class LatencyHistogram(WireModel):
    """`counts[i]` durations since the start were at most `upTo[i]` seconds; the last bound, null, is infinite.

    `stage` is the name of a stage, `queue`, or the route of whole requests.
    """

    stage: str
    up_to: list[float | None]
    counts: list[int]


class Latency(WireModel):
    """Histograms in the order of a request's stages. Subtract two answers for the durations between them."""

    histograms: Annotated[list[LatencyHistogram], Field(description="Empty histograms are left out.")]


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
    first, *rest = get_args(Stage)
    histograms = [
        LatencyHistogram(
            stage=stage,
            up_to=[None if bound == float("inf") else bound for bound, _ in buckets],
            counts=[number for _, number in buckets],
        )
        for stage in (first, "queue", *rest, *_ROUTES)
        if (buckets := found.get(stage)) and buckets[-1][1]
    ]
    return Latency(histograms=histograms)
