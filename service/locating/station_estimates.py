"""Where a base station by itself locates a user, without fingerprints."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fingerpost.wire import CoarsePosition, LocateRequest, LosNlosMeasureInd
from fingerpost.wire_provenance import Fallback, LwlmProvenance
from reference_db.geodesy import LocalFrame
from service import errors
from service.cells.stations import Station
from service.inference.lwlm_estimator import MeasuredUser
from service.locating.coarse_position import EXPLAINED_SIGMAS
from service.locating.estimates import RADII_PER_CENT, Location, Uncertainty
from service.web.place import to_local

CoarseIgnored = Literal["COARSE_POSITION_NOT_TAKEN", "COARSE_POSITION_CONTRADICTED"]

_LEAST_LIKELY = 0.5  # a direct path at least as likely as a detour is said to be one


def locate_by_station(
    request: LocateRequest, station: Station, measured: MeasuredUser, fallbacks: list[Fallback] | None
) -> Location:
    """The position with its calibrated covariance. `fallbacks`: the methods that did not locate the user.

    Raises `CoarsePositionIncorrect`.
    """
    (one,) = measured.stations
    cell, engine = station
    uncertainty = Uncertainty(one.covariance, engine.artifact.manifest.scales.position)
    provenance = LwlmProvenance(
        artifact=engine.reference,
        cell_version=cell.version.version,
        fallbacks=fallbacks,
        los_probability=one.line_of_sight,
        coarse_position_ignored=_why_ignored(request.coarse_position, one.position, uncertainty, cell.frame),
    )
    sight = line_of_sight_of(one.line_of_sight)
    described = provenance.model_dump()
    return Location(one.position, cell.version.cell, cell.frame, uncertainty, provenance, described, sight)


def line_of_sight_of(probability: float) -> LosNlosMeasureInd:
    return "LOS" if probability >= _LEAST_LIKELY else "NLOS"


def locate_fix(fix: CoarsePosition, frame: LocalFrame) -> tuple[float, float]:
    """Metres east and north. Raises `CoarsePositionIncorrect`."""
    local = to_local(fix, frame)
    if local is None:
        raise errors.CoarsePositionIncorrect("/coarsePosition", "must be either lat and lon, or x and y")
    return local


def _why_ignored(
    fix: CoarsePosition | None, position: NDArray[np.float64], uncertainty: Uncertainty, frame: LocalFrame
) -> CoarseIgnored | None:
    """Also whether the errors of fix and estimate do not explain how far they are apart."""
    if fix is None:
        return None
    apart = float(np.hypot(*(position - locate_fix(fix, frame))))
    ellipse, _ = uncertainty.around(RADII_PER_CENT)
    explained = ellipse.semi_major + EXPLAINED_SIGMAS * fix.h_accuracy
    return "COARSE_POSITION_NOT_TAKEN" if apart <= explained else "COARSE_POSITION_CONTRADICTED"
