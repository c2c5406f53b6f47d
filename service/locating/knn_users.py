"""A user whom weighted kNN locates."""

from typing import NamedTuple

from fingerpost.wire import LocateRequest
from fingerpost.wire_provenance import KnnProvenance
from service.cells.knn_calibration import KnnLevel
from service.cells.knn_cells import KnnCell
from service.inference.knn_estimator import KnnEstimate
from service.inference.user import User
from service.locating.coarse_position import Fix, OutsideCell, accuracy_used, why_ignored
from service.locating.estimates import Location, Uncertainty
from service.locating.users import ReadUser, compare_with


class PlacedKnnUser(NamedTuple):
    """A user whose cell is loaded and whose coarse position, if any, is in the cell's frame or far outside the cell."""

    user: ReadUser
    cell: KnnCell
    fix: Fix | OutsideCell | None

    def for_estimator(self) -> User:
        version, _, calibration = self.cell
        return compare_with(version, self.user, self.fix, calibration.limits, calibration.belonging)


class LocatedKnnUser(NamedTuple):
    placed: PlacedKnnUser
    estimate: KnnEstimate

    @property
    def request(self) -> LocateRequest:
        return self.placed.user.request

    @property
    def location(self) -> Location:
        version, level = self.placed.cell.version, self._level
        provenance = KnnProvenance(
            cell_version=version.version,
            coarse_position_used=self.estimate.coarse_used,
            coarse_position_ignored=why_ignored(self.placed.fix, self.estimate.coarse_used),
            calibrated_h_accuracy=level.sigma,
            fallbacks=self.placed.user.fallbacks,
        )
        position = self.estimate.position
        uncertainty = Uncertainty(level.covariance(position), level.scales)
        return Location(position, version.cell, version.frame, uncertainty, provenance, provenance.model_dump())

    @property
    def _level(self) -> KnnLevel:
        return self.placed.cell.calibration.level(accuracy_used(self.placed.fix, self.estimate.coarse_used))
