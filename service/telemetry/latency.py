"""``GET /latency``: how long each stage of a location takes, by the histograms that Prometheus sees."""

from collections import defaultdict
from typing import Annotated, get_args

import msgspec
from msgspec import Meta
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import Response

from fingerpost.wire import WireStruct
from service.telemetry.metrics import Stage

_STAGES = "fingerpost_stage_duration_seconds"
_QUEUE = "fingerpost_queue_duration_seconds"
_REQUESTS = "fingerpost_request_duration_seconds"
_ROUTES = ("/locate", "/locate/batch", "/locate/trajectory")


class LatencyHistogram(WireStruct, frozen=True, kw_only=True):
    """`counts[i]` took at most `upTo[i]` seconds, since the process started; the last bound, null, is infinite.

    `stage` is a stage's name, `queue`, or the route of whole requests.
    """

    stage: str
    up_to: list[float | None]
    counts: list[int]


class Latency(WireStruct, frozen=True, kw_only=True):
    """In the order of a user's journey. The difference of two answers is what happened between them."""

    histograms: Annotated[list[LatencyHistogram], Meta(description="Those with nothing in them are not there.")]


class Latencies:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def endpoint(self, request: Request) -> Response:
        answer = Latency(histograms=self._histograms())
        headers = {"Cache-Control": "no-store"}
        return Response(msgspec.json.encode(answer), headers=headers, media_type="application/json")

    def _histograms(self) -> list[LatencyHistogram]:
        found: dict[str, list[tuple[float, int]]] = defaultdict(list)
        for family in self._registry.collect():
            if family.name in (_STAGES, _QUEUE, _REQUESTS):
                for sample in family.samples:
                    if sample.name.endswith("_bucket"):
                        labels = sample.labels
                        stage = labels.get("stage") or labels.get("route") or "queue"
                        found[stage].append((float(labels["le"]), int(sample.value)))
        first, *rest = get_args(Stage)
        return [
            LatencyHistogram(
                stage=stage,
                up_to=[None if bound == float("inf") else bound for bound, _ in buckets],
                counts=[number for _, number in buckets],
            )
            for stage in (first, "queue", *rest, *_ROUTES)
            if (buckets := found.get(stage)) and buckets[-1][1]
        ]
