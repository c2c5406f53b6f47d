"""Each cell in short: which models locate users in it, how well, or why none does."""

from datetime import UTC, datetime

from reference_db.manifest import Manifest
from service.cells.calibration import Calibration, check_serves
from service.cells.registry import ServedCells
from service.cells.stations import Stations
from service.cells.trajectories import Trajectories
from service.errors import ServiceError
from service.settings import Settings
from service.updates.cell_wire import CellAccuracy, CellSummary, NotServed


class Overview:
    """For any thread. Reads manifests only, no fingerprints."""

    def __init__(
        self, served: ServedCells, trajectories: Trajectories | None, stations: Stations | None, settings: Settings
    ) -> None:
        self._served = served
        self._trajectories = trajectories
        self._stations = stations
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
            accuracy=_describe_errors(self._served.calibration(manifest)),
            refused=self._served.refusal(manifest.cell.cell_id, manifest.digest),
        )


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
