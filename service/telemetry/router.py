"""The routes `GET /metrics` and `GET /latency`."""

from fastapi import APIRouter, Request
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import PlainTextResponse, Response

from fingerpost.wire_health import Latency
from service.telemetry.latency import measure_latency

router = APIRouter(tags=["telemetry"])


@router.get("/metrics", response_class=PlainTextResponse, summary="Prometheus metrics")
def metrics(request: Request) -> Response:
    """For Prometheus to scrape."""
    content = generate_latest(request.app.state.metrics.registry)
    return Response(content, headers={"Content-Type": CONTENT_TYPE_LATEST})


@router.get("/latency", summary="Show how long stages take")
def show_latency(request: Request, response: Response) -> Latency:
    """Histograms of each stage since the process started."""
    response.headers["Cache-Control"] = "no-store"
    return measure_latency(request.app.state.metrics.registry)
