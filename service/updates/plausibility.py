"""What is implausible about an operator's survey: refused, or published with a note in the version's quality report."""

from collections.abc import Sequence

from pydantic import TypeAdapter, ValidationError

from reference_db.cell import Cell
from reference_db.contents import Contents
from reference_db.findings import Finding
from reference_db.fingerprints import Fingerprints
from reference_db.manifest import Manifest
from reference_db.plausibility import FEWEST_COMPARED, Plausibility, check_plausibility
from reference_db.update import Update
from service.cells.calibration import Calibration
from service.errors import CellTooSmall, SurveyImplausible, overridden_by_force

QUALITY_KEY = "findings"

_STORED = TypeAdapter(list[Finding])
_SAMPLE = 4096  # fingerprints of a cell that are judged
_OF_A_VERSION = {"too few", "no gain"}  # judged anew for each version

# The mean error of a coarse position whose errors on both axes are normal, as a multiple of their 1-sigma.
_MEAN_ERROR = 1.2533


def judge_survey(fingerprints: Fingerprints, cell: Cell, *, whole: bool, force: bool) -> list[Finding]:
    """The findings about fingerprints to import, all of a cell (`whole`) or an addition. Takes a tenth of a second.

    Raises `SurveyImplausible` for findings that refuse the survey, unless `force` is set.
    """
    findings = check_plausibility(fingerprints, cell, whole=whole).findings
    _refuse(findings, force)
    return findings


def _refuse(findings: Sequence[Finding], force: bool) -> None:
    refused = [finding for finding in findings if finding.severity == "refused"]
    if refused and not force:
        reasons = "; ".join(f"{finding.reason} ({finding.advice})" for finding in refused)
        with overridden_by_force():
            raise SurveyImplausible(reasons)


def judge_addition(before: Contents, made: Update, added: Fingerprints, *, force: bool) -> list[Finding]:
    """The findings about fingerprints to append. Raises what `judge_survey` raises."""
    findings = check_addition(before, made, added).findings
    _refuse(findings, force)
    return findings


def check_addition(before: Contents, made: Update, added: Fingerprints) -> Plausibility:
    """What is implausible about fingerprints to append.

    Those of a cell that begins are judged together: a survey may come in pieces that are too small to judge.
    """
    if len(before) < FEWEST_COMPARED:
        return check_plausibility(made.contents.sample(_SAMPLE), made.manifest.cell)
    return check_plausibility(added, made.manifest.cell, whole=False)


def judge_correction(before: Contents, made: Update, *, force: bool) -> list[Finding]:
    """The findings about a cell's fingerprints under another description.

    Raises `SurveyImplausible` as `judge_survey` does, but not for what was found before: that was published by force.
    """
    if not len(made.contents):
        return []
    findings = check_plausibility(made.contents.sample(_SAMPLE), made.manifest.cell).findings
    known = {finding.name for finding in list_findings(before.manifest) if finding.severity == "refused"}
    _refuse([finding for finding in findings if finding.name not in known], force)
    return findings


def judge_size(error: CellTooSmall, fingerprints: int, *, stands_in: bool) -> list[Finding]:
    """The finding about a cell whose fingerprints cannot serve yet. `stands_in`: its base station serves meanwhile.

    A cell without fingerprints has just been created.
    """
    if not fingerprints:
        return []
    meanwhile = "the base station alone locates users until then" if stands_in else "users get no answer yet"
    return [Finding("too few", "warning", error.invalid_params[0].reason, f"append fingerprints; {meanwhile}")]


def judge_calibration(calibration: Calibration) -> list[Finding]:
    """The finding about a cell that locates users no better than their coarse positions do.

    It names each accuracy of the coarse position for which this is so.
    """
    useless = [
        f"with a coarse position of {level.sigma:g} m the cell's own fingerprints are {level.mean:.2f} m off (mean)"
        for level in calibration.levels
        if level.sigma is not None and level.mean >= _MEAN_ERROR * level.sigma
    ]
    if not useless:
        return []
    advice = "the coarse position alone would be better: check the survey, and whether the artifact suits its radio"
    return [Finding("no gain", "warning", "; ".join(useless), advice)]


def carry_findings(update: Update, before: Manifest | None) -> Update:
    """The update with the findings about the survey before, whose fingerprints it still holds."""
    action = update.manifest.change.action
    if before is None or action in ("created", "replaced", "corrected", "rolled back"):
        return update
    known = [finding for finding in list_findings(before) if finding.name not in _OF_A_VERSION]
    return with_findings(update, [*known, *list_findings(update.manifest)])


def with_findings(update: Update, findings: Sequence[Finding]) -> Update:
    """The update with more findings in its quality report. A new finding replaces an earlier one of the same name.

    Without findings the report stays as it is.
    """
    if not findings:
        return update
    named = {finding.name: finding for finding in [*list_findings(update.manifest), *findings]}
    return update.with_quality({QUALITY_KEY: [dict(finding._asdict()) for finding in named.values()]})


def list_findings(manifest: Manifest) -> list[Finding]:
    """The findings in a version's quality report."""
    try:
        return _STORED.validate_python(manifest.quality.get(QUALITY_KEY, []))
    except ValidationError:
        return []
