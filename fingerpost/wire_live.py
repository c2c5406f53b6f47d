"""The last estimates of a cell, for an operator who watches it."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from fingerpost.wire_model import WireModel, optional
from fingerpost.wire_shapes import LocalPoint, UncertaintyEllipse


class LiveEstimate(WireModel):
    """Metres east and north of the base station, and the ellipse that contains the user with this confidence.

    It is the confidence of the service, or the nearest one that is known, not the one that the caller asked for. So
    estimates on one map can be compared.
    """

    number: int
    timestamp_of_location_estimate: datetime
    point: LocalPoint
    uncertainty_ellipse: UncertaintyEllipse
    confidence: int
    coarse_position_used: bool
    cell_version: str
    source: Annotated[str, Field(description="The method that located the user.")]
    track: int | None = optional(
        "Estimates of one `trackId` have the same number while the cell is watched. Absent without a `trackId`."
    )


class LiveEstimates(WireModel):
    """Oldest first. The service keeps the last 256 of a cell."""

    estimates: list[LiveEstimate]
    next: Annotated[int, Field(description="The value of `after` for the next request.")]
