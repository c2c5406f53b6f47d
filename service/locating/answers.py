"""What a located user is answered."""

from datetime import datetime
from typing import NamedTuple

from fingerpost.wire import LocateRequest
from fingerpost.wire_provenance import UserProvenance
from fingerpost.wire_shapes import Fulfilment
from service.locating.estimates import Ellipse, Json, Located, Location, whole_minutes
from service.locating.quality import state_location


class Usual(NamedTuple):
    """The ellipse of a user at the confidence of the service, or at the nearest that is known, in per cent."""

    ellipse: Ellipse
    confidence: int


class Answer(NamedTuple):
    """What a user is answered. `body` is a `LocateResponse` with the names of the wire; the rest is for metrics and
    for operators who watch.

    A dict, not the model: making and encoding models lowered the rate of batches of 16 by an eighth. Tests validate
    bodies by the model.
    """

    body: Json
    location: Location
    measured: datetime
    usual: Usual
    confidence: int
    indicator: Fulfilment | None
    asked_confidence: int | None
    asked_shape: str | None
    track_id: str | None

    @property
    def usual_accuracy(self) -> float:
        return self.usual.ellipse.semi_major

    @property
    def provenance(self) -> UserProvenance:
        return self.location.provenance


def answer_user(located: Located, usual: int, received: datetime) -> Answer:
    """The answer, in the quality asked for. `usual`: the confidence of the service in per cent.

    Raises `CoarsePositionIncorrect` or `EstimateNotFinite`.
    """
    request, location = located.request, located.location
    measured, asked = request.timestamp or received, request.confidence
    stated = state_location(location, request, usual)
    body: Json = {} if request.request_id is None else {"requestId": request.request_id}
    body |= stated.fields
    body |= {
        "ageOfLocationEstimate": whole_minutes(received - measured),
        "timestampOfLocationEstimate": measured,
        "provenance": location.described,
    }
    if location.line_of_sight is not None:
        body["losNlosMeasureInd"] = location.line_of_sight
    return Answer(
        body,
        location,
        measured,
        Usual(stated.ellipse, stated.confidence) if asked is None else Usual(*location.uncertainty.around(usual)),
        stated.confidence,
        stated.indicator,
        asked,
        None if request.supported_gad_shapes is None else stated.shape,
        request.track_id if isinstance(request, LocateRequest) else None,
    )
