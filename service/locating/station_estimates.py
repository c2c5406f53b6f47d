"""Where a base station by itself locates a user, without fingerprints."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fingerpost.wire import CoarsePosition, LocateRequest, LosNlosMeasureInd
from fingerpost.wire_provenance import LwlmProvenance
from models.artifact import RADII_CONFIDENCE
from reference_db.geodesy import LocalFrame
from service import errors
from service.cells.stations import Station
from service.errors import ServiceError
from service.inference.lwlm_estimator import MeasuredUser
from service.locating.coarse_position import EXPLAINED_SIGMAS
from service.locating.estimates import Ellipse, Estimates, ellipse_of, estimates_of
from service.web.place import to_local

CoarseIgnored = Literal["COARSE_POSITION_NOT_TAKEN", "COARSE_POSITION_CONTRADICTED"]

_LEAST_LIKELY = 0.5  # a direct path at least as likely as a detour is said to be one


class StationEstimate(NamedTuple):
    """Where a base station by itself locates a user. The radius is that of the smallest circle around the ellipse."""

    estimates: Estimates
    radius: float
    line_of_sight: LosNlosMeasureInd
    provenance: LwlmProvenance


def estimate_by_station(
    request: LocateRequest, station: Station, measured: MeasuredUser, untracked: ServiceError | None
) -> StationEstimate:
    """The position with its calibrated ellipse. `untracked`: why the track of this user could not be located.

    Raises `CoarsePositionIncorrect` or `EstimateNotFinite`.
    """
    (one,) = measured.stations
    cell, engine, fallback = station
    ellipse = ellipse_of(one.covariance, engine.artifact.manifest.scales.position)
    estimates = estimates_of(one.position, cell.version.cell, cell.frame, ellipse, RADII_CONFIDENCE)
    provenance = LwlmProvenance(
        artifact=engine.reference,
        cell_version=cell.version.version,
        fallback=fallback,
        track_fallback=None if untracked is None else untracked.cause,
        los_probability=one.line_of_sight,
        coarse_position_ignored=_why_ignored(request.coarse_position, one.position, ellipse, cell.frame),
    )
    return StationEstimate(estimates, ellipse.semi_major, line_of_sight_of(one.line_of_sight), provenance)


def line_of_sight_of(probability: float) -> LosNlosMeasureInd:
    return "LOS" if probability >= _LEAST_LIKELY else "NLOS"


def locate_fix(fix: CoarsePosition, frame: LocalFrame) -> tuple[float, float]:
    """Metres east and north. Raises `CoarsePositionIncorrect`."""
    local = to_local(fix, frame)
    if local is None:
        raise errors.CoarsePositionIncorrect("/coarsePosition", "must be either lat and lon, or x and y")
    return local


def _why_ignored(
    fix: CoarsePosition | None, position: NDArray[np.float64], ellipse: Ellipse, frame: LocalFrame
) -> CoarseIgnored | None:
    """Also whether the errors of fix and estimate do not explain how far they are apart."""
    if fix is None:
        return None
    apart = float(np.hypot(*(position - locate_fix(fix, frame))))
    explained = ellipse.semi_major + EXPLAINED_SIGMAS * fix.h_accuracy
    return "COARSE_POSITION_NOT_TAKEN" if apart <= explained else "COARSE_POSITION_CONTRADICTED"
