"""A user at each step of locating."""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fingerpost.wire import LocateRequest
from fingerpost.wire_provenance import ArtifactReference, Fallback, Method, Provenance
from reference_db.cell_version import CellVersion
from service.cells.served_cell import ServedCell
from service.cells.stations import Station
from service.errors import ModelNotAllowed, ServiceError
from service.inference.belonging import DOUBTFUL, Belonging
from service.inference.estimator import RETRIEVAL
from service.inference.lwlm_estimator import MeasuredUser, Snapshot
from service.inference.plausibility import PlausibilityLimits
from service.inference.user import Estimate, User
from service.locating.coarse_position import NO_FIX, SIGMAS_99, Fix, OutsideCell, accuracy_used, why_ignored
from service.locating.estimates import Json, Location, Uncertainty, check_position
from service.locating.station_estimates import locate_by_station


class Failure(NamedTuple):
    """Why a method did not locate a user."""

    method: Method
    error: ServiceError


class ReadUser(NamedTuple):
    """A valid request, with its CSI float32 `[antennas, subcarriers, 2]`, and the methods that did not locate the user
    so far.
    """

    request: LocateRequest
    csi: NDArray[np.float32]
    failures: tuple[Failure, ...] = ()

    @property
    def named_failures(self) -> tuple[Failure, ...]:
        """Without the methods that the cell's model policy excludes, unless there are no others."""
        allowed = tuple(one for one in self.failures if not isinstance(one.error, ModelNotAllowed))
        return allowed or self.failures

    @property
    def fallbacks(self) -> list[Fallback] | None:
        """Of an answer by a method that the cell's model policy allows."""
        if not self.failures:
            return None
        return [
            Fallback(method=method, cause=error.cause)
            for method, error in self.failures
            if not isinstance(error, ModelNotAllowed)
        ] or None


def compare_with(
    version: CellVersion,
    user: ReadUser,
    fix: Fix | OutsideCell | None,
    limits: PlausibilityLimits,
    belonging: Belonging,
) -> User:
    """The user as an estimator takes it, to be compared with the fingerprints of `version`."""
    east, north, accuracy = fix if isinstance(fix, Fix) else NO_FIX
    return User(version, user.csi, np.array((east, north), np.float32), accuracy, limits, belonging)


class PlacedUser(NamedTuple):
    """A user whose cell is loaded and whose coarse position, if any, is in the cell's frame or far outside the cell."""

    user: ReadUser
    served: ServedCell
    fix: Fix | OutsideCell | None

    def for_estimator(self) -> User:
        version, _, calibration = self.served
        return compare_with(version, self.user, self.fix, calibration.limits, calibration.belonging)


class LocatedUser(NamedTuple):
    placed: PlacedUser
    estimate: Estimate

    @property
    def request(self) -> LocateRequest:
        return self.placed.user.request

    @property
    def location(self) -> Location:
        """Raises `EstimateNotFinite`."""
        version, position = self.placed.served.version, self.estimate.position
        check_position(position)
        return Location(position, version.cell, version.frame, self.uncertainty, *self.describe_provenance())

    @property
    def uncertainty(self) -> Uncertainty:
        """The calibrated ellipse; a circle that holds wherever the user is, if CSI or coarse position may be wrong."""
        calibrated = self.calibrated
        if not (self.is_doubtful or self.is_contradicted):
            return calibrated
        ellipse, _ = calibrated.around(99)
        return Uncertainty.reach(max(self._reach, ellipse.semi_major))

    @property
    def calibrated(self) -> Uncertainty:
        """The cell's own ellipse."""
        estimate, ellipses = self.estimate, self.placed.served.calibration.ellipses
        covariance = ellipses.covariance(self.level, estimate.position, estimate.covariance)
        (east, shared), (_, north) = covariance.tolist()
        scales = ellipses.levels[self.level].scales(east * north - shared**2, estimate.snr_db)
        return Uncertainty(covariance, scales)

    @property
    def level(self) -> int:
        """Which level of the calibration holds for this user."""
        accuracy = accuracy_used(self.placed.fix, self.estimate.coarse_used)
        return self.placed.served.calibration.find_level(accuracy)

    @property
    def is_doubtful(self) -> bool:
        return self.estimate.belonging < DOUBTFUL

    def describe_provenance(self, snapshots: int | None = None) -> tuple[Provenance, Json]:
        """`snapshots`: how many were located together, this one included; None: this one alone."""
        version, engine, fallbacks = self.placed.served.version, self.placed.served.engine, self.placed.user.fallbacks
        return _make_provenance(
            *(engine.reference.name, engine.reference.version, engine.reference.digest),
            cell_version=version.version,
            neighbours=engine.estimator.neighbours(len(version)),
            passes=engine.artifact.manifest.passes,
            coarse_position_used=self.estimate.coarse_used,
            coarse_position_ignored=why_ignored(self.placed.fix, self.estimate.coarse_used),
            calibrated_h_accuracy=self.placed.served.calibration.levels[self.level].sigma,
            csi_doubtful=self.is_doubtful or None,
            snapshots=snapshots,
            fallbacks=None if fallbacks is None else tuple(fallbacks),
        )

    @property
    def _fix(self) -> Fix | None:
        """The coarse position, unless it lies outside the cell."""
        return self.placed.fix if isinstance(self.placed.fix, Fix) else None

    @property
    def is_contradicted(self) -> bool:
        return self._fix is not None and not self.estimate.coarse_used

    @property
    def _reach(self) -> float:
        """How far the user may be from the estimate, metres: by the coarse position, or anywhere in the cell."""
        west, south, east, north = self.placed.served.version.extent
        anywhere = max(self._distance_to(x, y) for x in (west, east) for y in (south, north))
        if self._fix is None:
            return anywhere
        by_fix = self._distance_to(self._fix.east, self._fix.north) + SIGMAS_99 * self._fix.accuracy
        # A vague fix says less than the cell; a fix that the signal contradicts may lie outside of it.
        return by_fix if self.is_contradicted else min(by_fix, anywhere)

    def _distance_to(self, east: float, north: float) -> float:
        x, y = self.estimate.position.tolist()
        return math.hypot(x - east, y - north)


class TrackedUser(NamedTuple):
    """A user located together with earlier snapshots of the same track."""

    user: ReadUser
    location: Location

    @property
    def request(self) -> LocateRequest:
        return self.user.request


class HeardUser(NamedTuple):
    """A user whom the base station of the cell is to locate by itself."""

    user: ReadUser
    station: Station

    def for_estimator(self) -> tuple[Snapshot, ...]:
        return (Snapshot(self.station.cell.version.cell, self.user.csi),)


class StationUser(NamedTuple):
    """A user whom the base station of the cell has located by itself."""

    heard: HeardUser
    measured: MeasuredUser

    @property
    def request(self) -> LocateRequest:
        return self.heard.user.request

    @property
    def location(self) -> Location:
        """Raises `CoarsePositionIncorrect`."""
        user, station = self.heard
        return locate_by_station(user.request, station, self.measured, user.fallbacks)


@lru_cache(4096)  # each version of a cell has few
def _make_provenance(
    name: str, version: str, digest: str, fallbacks: tuple[Fallback, ...] | None, **fields: Any
) -> tuple[Provenance, Json]:
    artifact = ArtifactReference(name=name, version=version, digest=digest)
    passed = None if fallbacks is None else list(fallbacks)
    made = Provenance(artifact=artifact, retrieval=RETRIEVAL, fallbacks=passed, **fields)
    return made, made.model_dump()
