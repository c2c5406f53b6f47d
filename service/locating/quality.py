"""The quality that a request asks for, and what its answer states: accuracy, confidence, shapes and age."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from pydantic import ValidationError

from fingerpost.wire import MaxAge, MeasuredAt, QualityRequest
from fingerpost.wire_model import WireModel, optional
from fingerpost.wire_shapes import Fulfilment
from service.errors import LocationTooOld, ShapesNotSupported
from service.locating.estimates import Ellipse, Json, Place, Received, check_position, check_timestamp

GlobeShape = Literal["POINT_UNCERTAINTY_ELLIPSE", "POINT_UNCERTAINTY_CIRCLE", "POINT"]

_GLOBE: tuple[GlobeShape, ...] = ("POINT_UNCERTAINTY_ELLIPSE", "POINT_UNCERTAINTY_CIRCLE", "POINT")  # best first
_LOCAL: Final = "LOCAL_2D_POINT_UNCERTAINTY_ELLIPSE"


class Shapes(NamedTuple):
    """The shape of an answer on the globe, and whether it also has the ellipse in the cell's frame."""

    globe: GlobeShape
    local: bool


_BOTH_ELLIPSES = Shapes(_GLOBE[0], local=True)


class Statement(NamedTuple):
    """What an answer states. `fields` are those of `StatedLocation`, with the names of the wire."""

    fields: Json
    ellipse: Ellipse
    confidence: int
    shape: GlobeShape
    indicator: Fulfilment | None


def choose_shapes(supported: Sequence[str] | None) -> Shapes:
    """The shapes of an answer to a caller who can read those in `supported`. None: the caller did not say.

    TS 29.572 has an estimate on the globe in every answer, so a caller who reads only the local ellipse gets a point.
    Raises `ShapesNotSupported`.
    """
    if supported is None:
        return _BOTH_ELLIPSES
    globe, local = next((shape for shape in _GLOBE if shape in supported), None), _LOCAL in supported
    if globe is None and not local:
        reason = f"names no shape that the service answers with: {', '.join(_GLOBE)} or {_LOCAL}"
        raise ShapesNotSupported("/supportedGADShapes", reason)
    return Shapes(globe or "POINT", local)


def check_times(measured: Sequence[tuple[str, datetime | None]], max_age: float | None, received: Received) -> None:
    """Checks when snapshots were measured, each by the JSON pointer of its time. One without a time is new.

    Raises `TimestampImplausible`, or `LocationTooOld` for the first snapshot older than `max_age` seconds.
    """
    for param, timestamp in measured:
        check_timestamp(timestamp, received, param)
    if max_age is None:
        return
    for param, timestamp in measured:
        age = 0.0 if timestamp is None else (received.at - timestamp).total_seconds()
        if age > max_age:
            raise LocationTooOld(param, f"the snapshot is {age:.1f} s old; maxAge allows {max_age:g} s")


class _DeclaredTime(WireModel):
    timestamp: MeasuredAt | None = optional()


class _Declared(_DeclaredTime):
    supported_gad_shapes: list[str] | None = optional(alias="supportedGADShapes")
    max_age: MaxAge | None = optional()
    measurements: list[_DeclaredTime] | None = optional()
    snapshots: list[_DeclaredTime] | None = optional()


def check_declared_quality(parsed: Any, received: Received) -> None:
    """Checks shapes and times of a parsed body that is not validated yet, before its cells are loaded.

    Raises `ShapesNotSupported`, `TimestampImplausible` or `LocationTooOld`.
    """
    try:
        declared = _Declared.model_validate(parsed)
    except ValidationError:
        return  # validation will name the field
    choose_shapes(declared.supported_gad_shapes)
    measured = [("/timestamp", declared.timestamp)]
    for name in ("measurements", "snapshots"):
        parts: list[_DeclaredTime] = getattr(declared, name) or []
        measured += [(f"/{name}/{i}/timestamp", one.timestamp) for i, one in enumerate(parts)]
    check_times(measured, declared.max_age, received)


def state_location(place: Place, asked: QualityRequest, usual: int) -> Statement:
    """States where a user is, as the request asks. `usual`: the confidence in per cent where the request has none.

    Dicts: to make the models takes longer than to convert the position. Raises `EstimateNotFinite`.
    """
    east, north = check_position(place.position)
    wanted = usual if asked.confidence is None else asked.confidence
    ellipse, confidence = place.uncertainty.around(wanted)
    shapes = choose_shapes(asked.supported_gad_shapes)
    lat, lon = place.frame.to_wgs84(east, north)
    described = {
        "semiMajor": ellipse.semi_major,
        "semiMinor": ellipse.semi_minor,
        "orientationMajor": ellipse.orientation_deg,
    }
    globe: Json = {"shape": shapes.globe, "point": {"lat": lat, "lon": lon}}
    if shapes.globe == "POINT_UNCERTAINTY_ELLIPSE":
        globe |= {"uncertaintyEllipse": described, "confidence": confidence}
    elif shapes.globe == "POINT_UNCERTAINTY_CIRCLE":
        globe["uncertainty"] = ellipse.semi_major
    fields: Json = {"locationEstimate": globe}
    if shapes.local:
        cell = place.cell
        fields["localLocationEstimate"] = {
            "shape": _LOCAL,
            "localOrigin": {
                "coordinateId": cell.cell_id,
                "point": {"lat": cell.latitude_deg, "lon": cell.longitude_deg},
            },
            "point": {"x": east, "y": north},
            "uncertaintyEllipse": described,
            "confidence": confidence,
        }
    fields |= {"hAccuracy": ellipse.semi_major, "confidence": confidence}
    indicator = _fulfilment(asked.h_accuracy, ellipse.semi_major, enough=confidence >= wanted)
    if indicator is not None:
        fields["accuracyFulfilmentIndicator"] = indicator
    return Statement(fields, ellipse, confidence, shapes.globe, indicator)


def _fulfilment(wanted: float | None, stated: float, *, enough: bool) -> Fulfilment | None:
    """Whether the accuracy is as the client wanted, at a confidence that is `enough`. None: it named no accuracy."""
    if wanted is None:
        return None
    fulfilled = enough and stated <= wanted
    return "REQUESTED_ACCURACY_FULFILLED" if fulfilled else "REQUESTED_ACCURACY_NOT_FULFILLED"
