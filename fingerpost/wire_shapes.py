"""How answers state where a user is, and how far to trust it. Names and shapes of 3GPP TS 29.572."""

from typing import Annotated, Literal

from pydantic import Field

from fingerpost.wire_model import WireModel, optional

Fulfilment = Literal["REQUESTED_ACCURACY_FULFILLED", "REQUESTED_ACCURACY_NOT_FULFILLED"]
Confidence = Annotated[int, Field(ge=0, le=100, description="Per cent of users inside the ellipse.")]


class Point(WireModel):
    """WGS84 degrees."""

    lat: float
    lon: float


class LocalPoint(WireModel):
    """Metres east (x) and north (y) of the local origin."""

    x: float
    y: float


class LocalOrigin(WireModel):
    """The base station. `coordinateId` is the name of its cell."""

    coordinate_id: str
    point: Point


class UncertaintyEllipse(WireModel):
    """Half axes in metres. The orientation of the major one in degrees clockwise from north."""

    semi_major: float
    semi_minor: float
    orientation_major: int


class GeographicPoint(WireModel):
    """The estimate on the globe, without its uncertainty: that is `hAccuracy` of the answer."""

    shape: Literal["POINT"] = "POINT"
    point: Point


class PointUncertaintyCircle(WireModel):
    """The estimate on the globe, in a circle around the ellipse. It holds at least `confidence` of the answer."""

    shape: Literal["POINT_UNCERTAINTY_CIRCLE"] = "POINT_UNCERTAINTY_CIRCLE"
    point: Point
    uncertainty: Annotated[float, Field(ge=0, description="Radius, metres.")]


class PointUncertaintyEllipse(WireModel):
    """The estimate on the globe."""

    shape: Literal["POINT_UNCERTAINTY_ELLIPSE"] = "POINT_UNCERTAINTY_ELLIPSE"
    point: Point
    uncertainty_ellipse: UncertaintyEllipse
    confidence: Confidence


class Local2dPointUncertaintyEllipse(WireModel):
    """The same estimate in the cell's frame."""

    shape: Literal["LOCAL_2D_POINT_UNCERTAINTY_ELLIPSE"] = "LOCAL_2D_POINT_UNCERTAINTY_ELLIPSE"
    local_origin: LocalOrigin
    point: LocalPoint
    uncertainty_ellipse: UncertaintyEllipse
    confidence: Confidence


class StatedLocation(WireModel):
    """Where a user is, and how far to trust it."""

    location_estimate: Annotated[
        PointUncertaintyEllipse | PointUncertaintyCircle | GeographicPoint,
        Field(
            discriminator="shape",
            description="The best shape in `supportedGADShapes`: an ellipse, else a circle, else a point. An ellipse "
            "where the request does not name any; a point where the request names no shape on the globe.",
        ),
    ]
    local_location_estimate: Local2dPointUncertaintyEllipse | None = optional(
        "Absent: the request's `supportedGADShapes` do not have this shape."
    )
    h_accuracy: Annotated[
        float,
        Field(
            description="Major half axis of the ellipse, metres: the circle of this radius holds at least `confidence`."
        ),
    ]
    confidence: Annotated[
        int,
        Field(
            ge=0,
            le=100,
            description="Per cent of users inside the ellipse: the confidence asked for, or the nearest one that is "
            "known.",
        ),
    ]
    accuracy_fulfilment_indicator: Fulfilment | None = optional(
        "Whether `hAccuracy` is at most the one asked for, at no less than the confidence asked for. Absent: the "
        "request names no accuracy."
    )
