"""Each cell in short: which models locate users in it, how well, or why none does."""

from collections.abc import Callable
from datetime import UTC, datetime

from fingerpost.wire_cells import CellAccuracy, CellSummary, NotServed
from reference_db.manifest import Manifest
from service.cells.calibration import Calibration, check_serves
from service.cells.drift import Drift
from service.cells.knn_calibration import check_compares
from service.cells.registry import ServedCells
from service.cells.stations import Stations
from service.cells.trajectories import Trajectories
from service.errors import ServiceError
from service.settings import Settings
from service.updates.cell_wire import describe_drift


class Overview:
    """For any thread. Reads manifests only, no fingerprints.

    `contradicts`: whether the surveyed truths of a cell contradict what the service states.
    """

    def __init__(
        self,
        served: ServedCells,
        trajectories: Trajectories | None,
        stations: Stations | None,
        settings: Settings,
        contradicts: Callable[[str], bool],
    ) -> None:
        self._served = served
        self._trajectories = trajectories
        self._stations = stations
        self._contradicts = contradicts
        self._confidence = settings.confidence

    def summarise(self, manifest: Manifest) -> CellSummary:
        """The current version of a cell, as the models that are active now serve it."""
        artifact = self._served.engine.artifact
        by_fingerprints = artifact.manifest.family
        families: list[str] = []
        reason: NotServed | None = None
        try:
            check_serves(artifact, manifest, self._confidence)
            families.append(by_fingerprints)
        except ServiceError as error:
            reason = NotServed(cause=error.cause, detail=error.reason)
        if self._trajectories is not None:
            try:
                self._trajectories.check(manifest)
                families.append(self._trajectories.engine.artifact.manifest.family)
            except ServiceError as error:
                # A cell with the policy `scadf-moe` depends on this model alone.
                if manifest.model == "scadf-moe":
                    reason = NotServed(cause=error.cause, detail=error.reason)
        if by_fingerprints not in families and _is_compared(manifest, self._confidence):
            families.append("weighted-knn")
        if self._stations is not None and by_fingerprints not in families:
            try:
                self._stations.check(manifest)
                families.append(self._stations.engine.artifact.manifest.family)
            except ServiceError as error:
                if manifest.model == "lwlm":
                    reason = NotServed(cause=error.cause, detail=error.reason)
        return CellSummary(
            cell_id=manifest.cell.cell_id,
            version=manifest.version,
            fingerprints=manifest.fingerprints,
            created_at=manifest.created_at,
            author=manifest.change.author,
            note=manifest.change.note,
            newest_measured=_newest(manifest),
            models=families,
            not_served=None if families else reason,
            drift=describe_drift(self.find_drift(manifest)),
            accuracy=_describe_errors(self._served.calibration(manifest)),
            coverage_contradicted=self._contradicts(manifest.cell.cell_id) or None,
            refused=self._served.refusal(manifest.cell.cell_id, manifest.digest),
        )

    def find_drift(self, manifest: Manifest) -> Drift | None:
        """What the traffic of a version says; None where this replica does not serve it."""
        return self._served.drift.describe(manifest.cell.cell_id, manifest.digest)


def _is_compared(manifest: Manifest, confidence: float) -> bool:
    try:
        check_compares(manifest, confidence)
    except ServiceError:
        return False
    return True


def _newest(manifest: Manifest) -> datetime | None:
    survey = manifest.quality.get("survey")
    newest = survey.get("newest") if isinstance(survey, dict) else None
    return datetime.fromtimestamp(newest, UTC) if isinstance(newest, float | int) else None


def _describe_errors(calibration: Calibration | None) -> CellAccuracy | None:
    if calibration is None:
        return None
    level = calibration.level(None)
    confidence = round(100 * calibration.confidence)
    return CellAccuracy(median=level.median, p95=level.p95, radius=level.radius, confidence=confidence)
