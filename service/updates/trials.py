"""Trials of updates on the cell's own fingerprints, before they are published: index, canary, calibration."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from reference_db.cell_version import CellVersion
from reference_db.contents import Contents, read_contents
from reference_db.errors import TooFewFingerprints
from reference_db.manifest import Manifest
from reference_db.stores.store import Store
from reference_db.update import Update
from service import errors
from service.cells.calibration import Calibration, check_serves
from service.cells.canary import Canary
from service.cells.registry import ServedCells
from service.cells.stations import Stations
from service.cells.store_errors import translate_store_errors
from service.cells.trajectories import Trajectories
from service.errors import ServiceError
from service.inference.engine import MateformerEngine
from service.settings import Settings
from service.updates.plausibility import judge_calibration, judge_size, with_findings
from service.updates.progress import Progress

_REFUSALS = (
    errors.CellTooSmall,
    errors.CellNotServed,
    errors.BandNotServed,
    errors.NoTrajectoryArtifact,
    errors.NoMeasuringArtifact,
    errors.ModelNotAllowed,
    errors.VersionRefused,
)  # of versions that `force` publishes anyway


class CalibratedUpdate(NamedTuple):
    """An update as it may be published, with its calibration in the quality report."""

    update: Update
    version: CellVersion | None  # with its indices; None if the artifact cannot serve it


class _TriedUpdate(NamedTuple):
    """`version` with its indices, the version `before` and the canary. None: the artifact does not serve the cell."""

    update: Update
    version: CellVersion | None = None
    before: CellVersion | None = None
    canary: Canary | None = None


class Rehearsal(NamedTuple):
    """A change that was tried and not published. `refusal`: why it would not be published without `force`."""

    update: Update
    version: CellVersion | None  # with its indices; None without fingerprints
    refusal: ServiceError | None


class Trials:
    """Tells whether users would be located with an update, and how well.

    Methods block for seconds. They enter the stages of a change in `progress`.
    """

    def __init__(
        self,
        store: Store,
        served: ServedCells,
        settings: Settings,
        progress: Progress,
        trajectories: Trajectories | None,
        stations: Stations | None,
    ) -> None:
        self._store = store
        self._served = served
        self._examiner = served.examiner
        self._settings = settings
        self._progress = progress
        self._trajectories = trajectories
        self._stations = stations

    def rehearse(self, update: Update, before: Manifest | None) -> Rehearsal:
        """Tries an update as if it were to be published, without a calibration. Blocking: seconds."""
        refusal, tried = None, _TriedUpdate(update)
        try:
            held = self._served.held(update.manifest.cell.cell_id)
            tried = self._try(self._served.engine, update, before, held, force=False)
        except _REFUSALS as error:
            refusal = error
        version = tried.version
        if version is None and len(update.contents):
            version = self._examiner.assemble(update.contents, None)
        return Rehearsal(tried.update, version, refusal)

    def test(
        self,
        engine: MateformerEngine,
        update: Update,
        before: Manifest | None,
        held: CellVersion | None,
        *,
        force: bool,
    ) -> CalibratedUpdate:
        """The update with its calibration. Raises if the artifact cannot serve the version, unless `force` is set."""
        tried = self._try(engine, update, before, held, force)
        if tried.canary is None or tried.version is None:
            return CalibratedUpdate(tried.update, None)
        artifact, version = engine.artifact, tried.version
        known = None if force else self._find_calibration(artifact.digest, version, tried.before, tried.canary)
        if known is None:
            self._progress.enter(update.manifest.cell.cell_id, "calibrating")
        calibration = known or self._examiner.calibrate(engine, version)
        update = update.with_quality(calibration.as_quality(artifact.digest) | tried.canary.as_quality())
        update = with_findings(update, judge_calibration(calibration))
        return CalibratedUpdate(update, replace(version, contents=update.contents))

    def _try(
        self, engine: MateformerEngine, update: Update, before: Manifest | None, held: CellVersion | None, force: bool
    ) -> _TriedUpdate:
        """The update on the cell's own fingerprints. Raises if it must not be published, unless `force` is set."""
        if update.manifest.model in ("scadf-moe", "lwlm"):
            if not force:
                with errors.overridden_by_force():
                    self._check_policy(update.manifest)
            return _TriedUpdate(update)
        artifact = engine.artifact
        served_before = before is not None and self._serves(engine, before)
        try:
            check_serves(artifact, update.manifest, self._settings.confidence)
        except errors.CellTooSmall as error:
            if served_before and not force:
                with errors.overridden_by_force():
                    raise
            small = judge_size(error, update.manifest.fingerprints, stands_in=self._is_measured(update.manifest))
            return _TriedUpdate(with_findings(update, small))  # new cells start small
        except (errors.CellNotServed, errors.BandNotServed) as error:
            if not force:
                with errors.overridden_by_force():
                    self._check_others(update.manifest, error)
            return _TriedUpdate(update)
        previous = None
        if before is not None and _has_same_clocks(before, update.manifest):
            previous = Calibration.of_quality(before.quality, artifact.digest)
        self._progress.enter(update.manifest.cell.cell_id, "indexing")
        old = self._index_before(before, held, update.contents) if served_before and before is not None else None
        version = self._examiner.assemble(update.contents, old)
        action = update.manifest.change.action
        rolled_back = action == "rolled back"
        comparable = None if rolled_back or action == "corrected" else old  # both may move all fingerprints on purpose
        self._progress.enter(update.manifest.cell.cell_id, "testing")
        canary = self._examiner.run_canary(engine, version, comparable)
        if not (force or rolled_back):  # a rollback must not depend on the version that it leaves
            with errors.overridden_by_force():
                canary.check(previous)
        return _TriedUpdate(update, version, old, canary)

    def _find_calibration(
        self, digest: str, version: CellVersion, before: CellVersion | None, canary: Canary
    ) -> Calibration | None:
        """A calibration of an earlier version that still holds: for a rollback, first that of the restored version."""
        known = [Calibration.of_quality(version.manifest.quality, digest)]
        if before is not None and before.cell == version.cell:
            previous = Calibration.of_quality(before.manifest.quality, digest)
            changed = len(np.setxor1d(before.ids, version.ids))
            known.append(None if previous is None else previous.after_change(changed))
        return next((one for one in known if one is not None and self._still_holds(one, canary)), None)

    def _still_holds(self, calibration: Calibration, canary: Canary) -> bool:
        same = calibration.confidence == self._settings.confidence
        # Of the same fingerprints another calibration would be the same: the canary's sample cannot refute it.
        return same and not calibration.expired and (not calibration.changed or canary.agrees(calibration))

    def _check_policy(self, manifest: Manifest) -> None:
        """Raises why the only model that a cell's policy allows cannot serve it. The model needs no fingerprints."""
        if manifest.model == "lwlm":
            if self._stations is None:
                raise errors.NoMeasuringArtifact("no artifact that measures snapshots is configured")
            self._stations.check(manifest)
            return
        if self._trajectories is None:
            raise errors.NoTrajectoryArtifact("no artifact for trajectories is configured")
        self._trajectories.check(manifest)

    def _check_others(self, manifest: Manifest, why: errors.CellNotServed | errors.BandNotServed) -> None:
        """Checks that another model serves a cell that the artifact for fingerprints cannot serve because of `why`.

        Raises an error of the same kind with the reasons of all models.
        """
        reasons = [why.reason]
        for family, others in (("scadf-moe", self._trajectories), ("lwlm", self._stations)):
            if others is None:
                continue
            try:
                others.check(manifest)
            except ServiceError as error:
                reasons.append(f"{family} does not locate users there: {error.reason}")
            else:
                return
        if manifest.model == "auto":
            reasons.append("weighted-knn can locate users there")
        raise type(why)("/cellId", "; ".join(reasons)) from why

    def _is_measured(self, manifest: Manifest) -> bool:
        return self._stations is not None and _passes(self._stations.check, manifest)

    def _serves(self, engine: MateformerEngine, manifest: Manifest) -> bool:
        return _passes(partial(check_serves, engine.artifact, confidence=self._settings.confidence), manifest)

    def _index_before(self, before: Manifest, held: CellVersion | None, after: Contents) -> CellVersion | None:
        """The version before, with its indices. None if it is damaged. `after` holds most of its fingerprints."""
        if held is not None and held.manifest.digest == before.digest:
            return held
        try:
            with translate_store_errors():
                return self._examiner.assemble(read_contents(self._store, before, after), held)
        except (errors.CellUnreadable, errors.VersionNotFound, TooFewFingerprints):
            return None


def _passes(check: Callable[[Manifest], None], manifest: Manifest) -> bool:
    try:
        check(manifest)
    except ServiceError:
        return False
    return True


def _has_same_clocks(before: Manifest, after: Manifest) -> bool:
    """Whether errors of two versions compare. Users with worse clocks are located worse, and that is no fault."""
    first, second = before.cell, after.cell
    return (first.survey_sto, first.user_sto) == (second.survey_sto, second.user_sto)
