"""Whether a service is well and how fast, as it goes over the wire."""

from typing import Annotated, Literal

from pydantic import Field

from fingerpost.wire_model import WireModel


class Live(WireModel):
    """The process answers."""

    status: Literal["live"] = "live"


class Ready(WireModel):
    """The service can locate users."""

    status: Literal["ready"] = "ready"


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
