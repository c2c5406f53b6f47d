"""A user at each step of locating, and the answer."""

from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fingerpost.wire import Fulfilment, LocateRequest, LosNlosMeasureInd, StationsRequest
from fingerpost.wire_provenance import ArtifactReference, LwlmProvenance, Provenance, TrackProvenance
from service.cells.calibration import CalibrationLevel
from service.cells.served_cell import ServedCell
from service.cells.stations import Station
from service.errors import ServiceError
from service.inference.estimator import RETRIEVAL, Estimate, User
from service.inference.lwlm_estimator import MeasuredUser, Snapshot
from service.locating.coarse_position import OUTSIDE_CELL, Fix, OutsideCell
from service.locating.estimates import Estimates, Json, estimates_of, fulfilment, whole_minutes
from service.locating.joiner import JoinedUser, estimate_by_stations
from service.locating.station_estimates import estimate_by_station
from service.locating.tracker import LocatedTrack

_NO_FIX = Fix(np.nan, np.nan, np.nan)


class ReadUser(NamedTuple):
    """A valid request, with its CSI float32 `[antennas, subcarriers, 2]`.

    `fallback`: why the track of this user could not be located, so that the snapshot is located by itself.
    """

    request: LocateRequest
    csi: NDArray[np.float32]
    fallback: ServiceError | None = None


class PlacedUser(NamedTuple):
    """A user whose cell is loaded and whose coarse position, if any, is in the cell's frame or far outside the cell."""

    user: ReadUser
    served: ServedCell
    fix: Fix | OutsideCell | None

    def for_estimator(self) -> User:
        fix = self.fix if isinstance(self.fix, Fix) else _NO_FIX
        place = np.array((fix.east, fix.north), np.float32)
        return User(self.served.version, self.user.csi, place, fix.accuracy, self.served.calibration.limits)


class LocatedUser(NamedTuple):
    placed: PlacedUser
    estimate: Estimate

    @property
    def coarse_ignored(self) -> str | None:
        """Why the user's coarse position was not used; None if it was, or if there is none."""
        fix = self.placed.fix
        if fix is None or self.estimate.coarse_used:
            return None
        return "COARSE_POSITION_OUTSIDE_CELL" if fix is OUTSIDE_CELL else "COARSE_POSITION_CONTRADICTED"

    @property
    def level(self) -> CalibrationLevel:
        fix, calibration = self.placed.fix, self.placed.served.calibration
        return calibration.level(fix.accuracy if isinstance(fix, Fix) and self.estimate.coarse_used else None)


class TrackedUser(NamedTuple):
    """A user located together with earlier snapshots of the same track."""

    user: ReadUser
    track: LocatedTrack


class HeardUser(NamedTuple):
    """A user whom the base station of the cell shall locate by itself."""

    user: ReadUser
    station: Station

    def for_estimator(self) -> tuple[Snapshot, ...]:
        return (Snapshot(self.station.cell.version.cell, self.user.csi),)


class StationUser(NamedTuple):
    """A user whom the base station of the cell has located by itself."""

    heard: HeardUser
    measured: MeasuredUser


class Answer(NamedTuple):
    """What a user is answered. `body` is a `LocateResponse` with the names of the wire; the rest is for metrics.

    A dict, not the model: making and encoding models lowered the rate of batches of 16 by an eighth. Tests validate
    bodies by the model.
    """

    body: Json
    h_accuracy: float
    accuracy_fulfilment_indicator: Fulfilment | None
    provenance: Provenance | TrackProvenance | LwlmProvenance


def answer_user(received: datetime, located: LocatedUser | TrackedUser | StationUser | JoinedUser) -> Answer:
    """The answer, with its calibrated circle. Raises `EstimateNotFinite`."""
    if isinstance(located, TrackedUser):
        estimates, radius, made = located.track
        return _answer(located.user.request, estimates, radius, made, made.model_dump(), received)
    if isinstance(located, JoinedUser):
        estimates, radius, source = estimate_by_stations(located)
        return _answer(located.user.request, estimates, radius, source, source.model_dump(), received)
    if isinstance(located, StationUser):
        user, station = located.heard
        found = estimate_by_station(user.request, station, located.measured, user.fallback)
        estimates, radius, seen, source = found
        return _answer(user.request, estimates, radius, source, source.model_dump(), received, seen)
    placed, level = located.placed, located.level
    version, confidence = placed.served.version, placed.served.calibration.confidence
    estimates = estimates_of(located.estimate.position, version.cell, version.frame, level.radius, confidence)
    return _answer(placed.user.request, estimates, level.radius, *_provenance(located, level), received)


def _provenance(located: LocatedUser, level: CalibrationLevel) -> tuple[Provenance, Json]:
    placed = located.placed
    version, engine, fallback = placed.served.version, placed.served.engine, placed.user.fallback
    return _make_provenance(
        *(engine.reference.name, engine.reference.version, engine.reference.digest),
        cell_version=version.version,
        neighbours=engine.estimator.neighbours(len(version)),
        passes=engine.artifact.manifest.passes,
        coarse_position_used=located.estimate.coarse_used,
        coarse_position_ignored=located.coarse_ignored,
        calibrated_h_accuracy=level.sigma,
        fallback=None if fallback is None else fallback.cause,
    )


@lru_cache(4096)  # each version of a cell has few
def _make_provenance(name: str, version: str, digest: str, **fields: Any) -> tuple[Provenance, Json]:
    artifact = ArtifactReference(name=name, version=version, digest=digest)
    made = Provenance(artifact=artifact, retrieval=RETRIEVAL, **fields)
    return made, made.model_dump()


def _answer(
    request: LocateRequest | StationsRequest,
    estimates: Estimates,
    radius: float,
    provenance: Provenance | TrackProvenance | LwlmProvenance,
    described: Json,
    received: datetime,
    line_of_sight: LosNlosMeasureInd | None = None,
) -> Answer:
    measured = request.timestamp or received
    indicator = fulfilment(request.h_accuracy, radius)
    body: Json = {} if request.request_id is None else {"requestId": request.request_id}
    body |= {
        "locationEstimate": estimates.globe,
        "localLocationEstimate": estimates.local,
        "hAccuracy": radius,
    }
    if indicator is not None:
        body["accuracyFulfilmentIndicator"] = indicator
    body |= {
        "ageOfLocationEstimate": whole_minutes(received - measured),
        "timestampOfLocationEstimate": measured,
        "provenance": described,
    }
    if line_of_sight is not None:
        body["losNlosMeasureInd"] = line_of_sight
    return Answer(body, radius, indicator, provenance)
