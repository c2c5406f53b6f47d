"""Where a user is, how far to trust it, and when it was measured."""

import math
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from fingerpost import wire
from fingerpost.wire_provenance import UserProvenance
from models.artifact import CONFIDENCES, RADII_CONFIDENCE, Scales
from reference_db.cell import Cell
from reference_db.geodesy import LocalFrame
from service.errors import EstimateNotFinite, TimestampImplausible

# Metres. No cell extends so far, and the conversion to WGS84 is meaningless beyond: the service treats it as NaN.
_FARTHEST = 1e6
_MOST_MINUTES = 32767
_LONGEST_S = 1e9  # of a maxRespTime; adding a huge integer to a float raises
RADII_PER_CENT = round(100 * RADII_CONFIDENCE)  # per cent that artifacts' own radii and scales are of
# Clocks of sender and server may differ by so much.
_CLOCK_TOLERANCE = timedelta(minutes=1)
# Clocks that have never been set start in 1970, 1980 or 2000.
_EARLIEST = datetime(2010, 1, 1, tzinfo=UTC)

Json = dict[str, Any]


class Received(NamedTuple):
    """When a request arrived, by the wall clock and by `time.monotonic`."""

    at: datetime
    monotonic: float


def declared_deadline(body: Any, received: Received) -> float:
    """The deadline of a parsed body that is not validated yet, a moment of `time.monotonic`; infinite without one."""
    limit = body.get("maxRespTime") if isinstance(body, dict) else None
    return received.monotonic + min(limit, _LONGEST_S) if isinstance(limit, int | float) and limit > 0 else math.inf


class Ellipse(NamedTuple):
    """Half axes in metres, and the direction of the major one in whole degrees clockwise from north, 0 to 179."""

    semi_major: float
    semi_minor: float
    orientation_deg: int


def ellipse_of(covariance: NDArray[np.floating], scale: float) -> Ellipse:
    """Where the Mahalanobis distance is at most `scale`. `covariance` `[2, 2]` in square metres, east and north.

    A circle has the orientation 0. In closed form: `numpy.linalg.eigh` takes ten times as long. Raises
    `EstimateNotFinite`.
    """
    (east, shared), (_, north) = covariance.tolist()
    half = math.hypot((east - north) / 2, shared)
    greatest = (east + north) / 2 + half
    if not 0 < greatest < math.inf:  # also when NaN
        raise EstimateNotFinite("the model returned no usable uncertainty")
    least = max(east * north - shared**2, 0.0) / greatest
    direction = math.atan2(2 * shared, east - north) / 2 if half else math.pi / 2  # counter-clockwise from east
    return Ellipse(scale * math.sqrt(greatest), scale * math.sqrt(least), round(90 - math.degrees(direction)) % 180)


class Uncertainty(NamedTuple):
    """How far an estimate may be off: where the Mahalanobis distance of its error under `covariance` is small.

    `covariance` float64 `[2, 2]` square metres, east and north; `scales` are the distances by confidence.
    """

    covariance: NDArray[np.float64]
    scales: Scales

    @classmethod
    def circle(cls, radius: float, confidence: int) -> Self:
        """A circle of so many metres that holds at one confidence, in per cent, and is known at no other."""
        return cls(np.eye(2), _scales_at(radius, confidence))

    @classmethod
    def reach(cls, radius: float) -> Self:
        """A circle of so many metres that is wide enough at every confidence that may be asked for."""
        return cls(np.eye(2), _scales_everywhere(radius))

    def around(self, confidence: int) -> tuple[Ellipse, int]:
        """The ellipse at a confidence in per cent, or at the nearest confidence that is known, and which that is."""
        known, factor = self.scales.at(confidence)
        return ellipse_of(self.covariance, factor), known


def _scales_everywhere(radius: float) -> Scales:
    return Scales(factors=dict.fromkeys((CONFIDENCES[0], CONFIDENCES[-1]), radius))


@lru_cache(4096)  # the cells in memory have few radii each
def _scales_at(radius: float, confidence: int) -> Scales:
    return Scales(factors={confidence: radius})


class Location(NamedTuple):
    """Where a user is, however it was found: what the answer is made of.

    `position` `[2]` in metres east and north in the frame of `cell`; `described` is the provenance as the wire has it.
    """

    position: NDArray[np.floating]
    cell: Cell
    frame: LocalFrame
    uncertainty: Uncertainty
    provenance: UserProvenance
    described: Json
    line_of_sight: wire.LosNlosMeasureInd | None = None


class Place(Protocol):
    """A position `[2]` in metres east and north in the frame of a cell."""

    @property
    def position(self) -> NDArray[np.floating]: ...
    @property
    def cell(self) -> Cell: ...
    @property
    def frame(self) -> LocalFrame: ...
    @property
    def uncertainty(self) -> Uncertainty: ...


class Located(Protocol):
    """A located user of any kind."""

    @property
    def request(self) -> wire.LocateRequest | wire.StationsRequest: ...
    @property
    def location(self) -> Location: ...


def check_position(position: NDArray[np.floating]) -> tuple[float, float]:
    """The coordinates of `position` `[2]` in metres, east and north. Raises `EstimateNotFinite`."""
    east, north = position.tolist()
    if not (abs(east) < _FARTHEST and abs(north) < _FARTHEST):  # also when NaN
        raise EstimateNotFinite("the model returned no usable coordinates")
    return east, north


def check_timestamp(timestamp: datetime | None, received: Received, param: str) -> None:
    """Raises `TimestampImplausible` about `param` for a time in the future or before 2010."""
    if timestamp is None:
        return
    if timestamp > received.at + _CLOCK_TOLERANCE:
        seconds = (timestamp - received.at).total_seconds()
        raise TimestampImplausible(param, f"lies {seconds:.0f} s in the future; the service allows 60 s")
    if timestamp < _EARLIEST:
        raise TimestampImplausible(param, "lies before 2010; leave it out if the time is unknown")


def whole_minutes(age: timedelta) -> int:
    return min(max(int(age.total_seconds() // 60), 0), _MOST_MINUTES)
