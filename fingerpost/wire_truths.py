"""Truths as they go over the wire, and what is answered about them."""

from datetime import date
from typing import Annotated, Literal

from pydantic import Field

from fingerpost.wire import CoarsePosition, Csi, East, Latitude, Longitude, North, Problem, RequestId
from fingerpost.wire_model import Timestamp, WireModel, WireRequest, optional

Reason = Annotated[
    Literal["FAR_FROM_FINGERPRINTS", "BADLY_LOCATED", "OUTSIDE_ELLIPSE"],
    Field(
        description="Why the truth would pay as a fingerprint. `FAR_FROM_FINGERPRINTS`: the nearest one is farther "
        "away than usual in the cell. `BADLY_LOCATED`: the answer is farther away than the nearest fingerprint. "
        "`OUTSIDE_ELLIPSE`: the stated ellipse does not hold the truth."
    ),
]
Verdict = Annotated[
    Literal["HOLDS", "TOO_FEW_INSIDE", "MORE_INSIDE", "UNDECIDED"],
    Field(
        description="`TOO_FEW_INSIDE` and `MORE_INSIDE` contradict the stated confidence: it lies outside the interval "
        "of the coverage. `UNDECIDED`: it lies inside, but the interval reaches more than ten per cent below it; send "
        "more truths."
    ),
]


class Truth(WireRequest):
    """Where a user really was: lat and lon, or x and y. And what located the user: `csi`, which the service locates
    now, or the `requestId` of an answer that it remembers. With both, the answer is scored.
    """

    lat: Latitude | None = optional()
    lon: Longitude | None = optional()
    x: East | None = optional()
    y: North | None = optional()
    sigma: Annotated[float, Field(gt=0, le=10, description="1-sigma error of the position on each axis, metres.")]
    time: Timestamp | None = optional("When the CSI was measured. Absent: unknown.")
    csi: Csi | None = optional()
    coarse_position: CoarsePosition | None = optional("Goes with `csi`: what the user's fix was, not the truth.")
    request_id: RequestId | None = optional()


class TruthsRequest(WireRequest):
    """Truths of one cell, at most as many as users in a batch."""

    items: Annotated[list[Truth], Field(min_length=1)]


class TruthScore(WireModel):
    """The answer about a truth. `east` and `north`: answer minus truth, metres."""

    error: Annotated[float, Field(description="Metres between answer and truth.")]
    east: float
    north: float
    inside: Annotated[
        bool,
        Field(
            description="Whether the ellipse of the answer holds the truth. The ellipse is widened by the truth's own "
            "error."
        ),
    ]
    confidence: Annotated[int, Field(description="Per cent of users that the ellipse is to hold.")]
    h_accuracy: Annotated[float, Field(description="Major half axis of the ellipse, metres.")]
    source: Annotated[str, Field(description="The family of the model that located the user.")]
    cell_version: str
    counted: Annotated[
        bool, Field(description="false: the same truth was counted before for the same version, model and confidence.")
    ]
    reasons: list[Reason] | None = optional("Present where the truth would pay as a fingerprint.")


class TruthResult(WireModel):
    """Exactly one of the two fields is there."""

    score: TruthScore | None = optional()
    problem: Problem | None = optional()


class TruthsResponse(WireModel):
    """Results in the order of the request's items."""

    results: list[TruthResult]
    counted: Annotated[int, Field(description="Truths that count from now on.")]
    proposed: Annotated[
        list[int], Field(description="Numbers of the items, from 0, that would pay as fingerprints of the cell.")
    ]
    version: str | None = optional("With `append=proposed`: the version with these fingerprints.")


class Bias(WireModel):
    """The mean of answer minus truth and the 1-sigma error of this mean, metres east and north."""

    east: float
    north: float
    east_sigma: float | None = optional("Absent for one truth.")
    north_sigma: float | None = optional()


class TruthSummary(WireModel):
    """What truths say together. Shares in per cent, errors in metres."""

    truths: int
    inside: Annotated[int, Field(description="Truths inside the ellipse of their answer.")]
    coverage: Annotated[float, Field(description="Per cent of truths inside.")]
    coverage_low: Annotated[float, Field(description="Lower end of the 95 % interval of the coverage.")]
    coverage_high: Annotated[float, Field(description="Upper end of it (Clopper and Pearson).")]
    confidence: Annotated[float, Field(description="Per cent that the answers stated, on average.")]
    verdict: Verdict
    bias: Bias
    mean_error: float
    median_error: float
    p95_error: Annotated[float, Field(description="95 % of truths are located within this distance.")]
    proposed: Annotated[int, Field(description="Truths that would have paid as fingerprints when they were sent.")]


class TruthsOfSource(TruthSummary):
    """Truths that one model family located."""

    source: str


class TruthsOfVersion(TruthSummary):
    """Truths that were located in one version of the cell."""

    version: str


class TruthsOfDay(TruthSummary):
    """Truths that were sent on one day (UTC)."""

    day: date


class TruthReport(WireModel):
    """How well the answers in a cell have agreed with surveyed truths, newest first."""

    cell_id: str
    total: TruthSummary | None = optional("Absent where no truth was sent.")
    sources: list[TruthsOfSource]
    versions: list[TruthsOfVersion]
    days: list[TruthsOfDay]
