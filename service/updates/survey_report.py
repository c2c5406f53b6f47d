"""Dry runs of imports: what the service sees in a survey, and whether it would publish it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import numpy as np

from fingerpost.wire_survey import (
    BearingAgreement,
    LeaveOneOut,
    SurveyCsi,
    SurveyExtent,
    SurveyFinding,
    SurveyReport,
)
from reference_db import update
from reference_db.cell import Cell
from reference_db.errors import BadFingerprint, TooFewFingerprints
from reference_db.findings import Finding
from reference_db.fingerprints import Fingerprints, find_faults
from reference_db.manifest import Manifest
from reference_db.plausibility import Plausibility, check_plausibility
from reference_db.survey import describe_survey, measure_leave_one_out
from reference_db.update import Origin, Update
from service import errors
from service.cells.store_errors import translate_store_errors
from service.cells.witnesses import witnesses_of
from service.errors import ServiceError
from service.updates.change_request import ChangeRequest, require_cell
from service.updates.fingerprint_input import FILE_ERRORS, FingerprintsInput
from service.updates.plausibility import check_addition, list_findings
from service.updates.publisher import Publisher

Read = Callable[[], FingerprintsInput]

_LAST_TIME = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
_FAULTS = (*FILE_ERRORS, errors.UpdateRefused, errors.EstimateNotFinite)
_ROW_ADVICE = "correct or drop the row"
_ADVICE: dict[type[ServiceError], str] = {
    errors.FingerprintsUnreadable: "check the arrays of the file and their shapes",
    errors.UpdateRefused: "the cell as it is does not allow this",
    errors.VersionRefused: "check the survey for shifted positions, another radio, or CSI in another order",
    errors.EstimateNotFinite: "check the CSI; if it is good, report the artifact",
    errors.CellTooSmall: "send more fingerprints",
}
_SERVING_ADVICE = "check the description of the cell, or activate an artifact for this radio"


def report_cell(
    publisher: Publisher, before: Manifest | None, read: Read, change: ChangeRequest, origin: Origin
) -> SurveyReport:
    """The report about a cell to create or to replace. Blocking: seconds. Raises `CellNotFound`."""
    survey = _Survey(publisher, change, before)
    with survey.noting_faults():
        body = read()
        if body.cell is None and before is None:
            raise errors.CellNotFound("/cellId", "no such cell, and the body does not describe it")
        cell = body.cell or require_cell(before).cell
        survey.examine(
            body,
            cell,
            lambda sent: update.replace_cell(before, cell, sent, origin),
            lambda _, sent: check_plausibility(sent, cell),
        )
    return survey.report()


def report_addition(
    publisher: Publisher,
    before: Manifest | None,
    read: Read,
    check_channel: Callable[[Cell, Cell], None],
    change: ChangeRequest,
    origin: Origin,
) -> SurveyReport:
    """The report about fingerprints to append. Blocking: seconds. Raises `CellNotFound`."""
    manifest = require_cell(before)
    survey = _Survey(publisher, change, manifest)
    contents = publisher.read_contents(manifest)
    survey.held = contents.ids
    with survey.noting_faults():
        body = read()
        if body.cell is not None:
            check_channel(body.cell, manifest.cell)

        def append(sent: Fingerprints | None) -> Update:
            assert sent is not None
            return update.append_fingerprints(contents, sent, origin)

        survey.examine(body, manifest.cell, append, lambda made, sent: check_addition(contents, made, sent))
    return survey.report()


class _Survey:
    """What is known about a survey so far. `held`: the ids of fingerprints that the cell has already."""

    def __init__(self, publisher: Publisher, change: ChangeRequest, before: Manifest | None) -> None:
        self.held = np.zeros(0, np.uint64)
        self._publisher = publisher
        self._change = change
        self._before = before
        self._sent: Fingerprints | None = None
        self._findings: list[SurveyFinding] = []
        self._bearing: BearingAgreement | None = None
        self._unjudged: str | None = None
        self._positions_unjudged: str | None = None
        self._left_out: LeaveOneOut | None = None

    @contextmanager
    def noting_faults(self) -> Iterator[None]:
        """Turns errors about the fingerprints into findings."""
        try:
            with translate_store_errors():
                try:
                    yield
                except BadFingerprint as error:
                    self._note_fault(f"row {error.row}: {error.reason}", error.advice or _ROW_ADVICE)
        except _FAULTS as error:
            self._findings.append(_describe_fault(error, overridable=False))

    def examine(
        self,
        body: FingerprintsInput,
        cell: Cell,
        make: Callable[[Fingerprints | None], Update],
        judge: Callable[[Update, Fingerprints], Plausibility],
    ) -> None:
        """Looks at the fingerprints of a body, and tries the update that `make` makes of them."""
        sent = self._sent = body.fingerprints(cell)
        if sent is not None:
            if not len(sent):
                raise TooFewFingerprints(wanted=1, available=0)
            for fault in find_faults(sent, cell):
                others = f" (and {fault.rows - 1} more rows)" if fault.rows > 1 else ""
                self._note_fault(f"row {fault.row}: {fault.reason}{others}", fault.advice)
            if self._findings:
                return
        made = make(sent)
        if sent is not None:
            plausibility = judge(made, sent)
            self._findings += map(_describe_finding, plausibility.findings)
            self._unjudged = plausibility.unjudged
            self._positions_unjudged = plausibility.positions_unjudged
            if plausibility.bearing is not None:
                self._bearing = BearingAgreement(**plausibility.bearing._asdict())
        rehearsal = self._publisher.trials.rehearse(made, self._before)
        self._findings += map(_describe_finding, list_findings(rehearsal.update.manifest))
        if rehearsal.refusal is not None:
            self._findings.append(_describe_fault(rehearsal.refusal, overridable=True))
        if rehearsal.version is not None:
            added = np.flatnonzero(~np.isin(rehearsal.version.ids, self.held))
            measured = measure_leave_one_out(rehearsal.version, witnesses_of(rehearsal.version), added)
            self._left_out = None if measured is None else LeaveOneOut(**measured._asdict())

    def report(self) -> SurveyReport:
        sent = self._sent
        facts = None if sent is None or not len(sent) else describe_survey(sent)
        oldest, newest = (None, None) if facts is None or facts.measured is None else facts.measured
        forced = self._change.conditions.force
        refused = [one for one in self._findings if one.severity == "fault" and not (forced and one.overridable)]
        return SurveyReport(
            cell_id=self._change.cell_id,
            version=None if self._before is None else self._before.version,
            fingerprints=0 if sent is None else len(sent),
            csi=None if sent is None else SurveyCsi(antennas=sent.csi.shape[1], subcarriers=sent.csi.shape[2]),
            extent=None if facts is None or facts.extent is None else SurveyExtent(**facts.extent._asdict()),
            spacing=None if facts is None else facts.spacing,
            measured_from=_timestamp(oldest),
            measured_to=_timestamp(newest),
            sigma=None if facts is None else facts.sigma,
            level_db=None if facts is None else facts.level_db,
            bearing=self._bearing,
            layout_unjudged=self._unjudged,
            positions_unjudged=self._positions_unjudged,
            leave_one_out=self._left_out,
            findings=sorted(self._findings, key=lambda one: one.severity != "fault"),
            would_publish=not refused,
        )

    def _note_fault(self, what: str, advice: str) -> None:
        self._findings.append(SurveyFinding(severity="fault", what=what, advice=advice, overridable=False))


def _describe_finding(finding: Finding) -> SurveyFinding:
    refused = finding.severity == "refused"
    return SurveyFinding(
        severity="fault" if refused else "warning", what=finding.reason, advice=finding.advice, overridable=refused
    )


def _describe_fault(error: ServiceError, *, overridable: bool) -> SurveyFinding:
    advice = _ADVICE.get(type(error), _SERVING_ADVICE if overridable else _ROW_ADVICE)
    return SurveyFinding(severity="fault", what=error.detail, advice=advice, overridable=overridable)


def _timestamp(time: float | None) -> datetime | None:
    return None if time is None else datetime.fromtimestamp(min(time, _LAST_TIME), UTC)
