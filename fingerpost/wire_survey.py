"""What the service sees in a survey before it is published: the answer of a dry run."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from fingerpost.wire_model import WireModel, optional

_Share = Annotated[float, Field(ge=0, le=1)]


class SurveyCsi(WireModel):
    """The shape of each snapshot."""

    antennas: int
    subcarriers: int


class SurveyExtent(WireModel):
    """The smallest rectangle around all positions, metres east and north of the base station."""

    west: float
    south: float
    east: float
    north: float


class BearingAgreement(WireModel):
    """Whether the strongest path of a snapshot comes from where its position is, as in line of sight it does."""

    agreement: Annotated[_Share, Field(description="Share of the snapshots for which it does.")]
    chance: Annotated[_Share, Field(description="The same share for snapshots with the positions of others.")]
    snapshots: Annotated[int, Field(description="Number of snapshots that were looked at.")]


class LeaveOneOut(WireModel):
    """Errors in metres of fingerprints that weighted kNN locates by the others, without a coarse position."""

    users: Annotated[int, Field(description="Number of fingerprints that were located.")]
    median: float
    p90: float
    chance: Annotated[float, Field(description="Median distance between the places of two random fingerprints.")]


class SurveyFinding(WireModel):
    """What is wrong or doubtful about a survey, and what to do."""

    severity: Annotated[Literal["fault", "warning"], Field(description="`fault`: the survey would be refused.")]
    what: str
    advice: str
    overridable: Annotated[bool, Field(description="Whether the change may be published by `force` anyway.")]


class SurveyReport(WireModel):
    """What the service sees in a survey. Nothing was published."""

    cell_id: str
    version: str | None = optional("The current version of the cell. Absent: the cell would be created.")
    fingerprints: Annotated[int, Field(description="The number of fingerprints sent. 0: they cannot be read.")]
    csi: SurveyCsi | None = optional("Absent: there are no fingerprints, or they cannot be read.")
    extent: SurveyExtent | None = optional("Absent where positions cannot be read.")
    spacing: float | None = optional("Median distance of a fingerprint to the nearest other one, metres.")
    measured_from: datetime | None = optional("When the oldest fingerprint was measured. Absent: unknown.")
    measured_to: datetime | None = optional("When the newest fingerprint was measured. Absent: unknown.")
    sigma: float | None = optional("Median 1-sigma error of the positions, metres.")
    level_db: float | None = optional("Median power of the CSI, dB: the mean of squared magnitudes.")
    bearing: BearingAgreement | None = optional(
        "Absent where it cannot be measured: fewer than 64 fingerprints, or an array of one column."
    )
    layout_unjudged: str | None = optional(
        "Why the service could not judge how the CSI is laid out: the order of antennas and subcarriers and the sign "
        "of phase may be wrong without a finding. Absent: it judged them, except for the order of an array's rows."
    )
    positions_unjudged: str | None = optional(
        "Why the service could not judge the positions: feet or centimetres sent as metres, or an exchange of east and "
        "north, may be there without a finding. Absent: it judged them."
    )
    leave_one_out: LeaveOneOut | None = optional("Absent where there are too few fingerprints.")
    findings: Annotated[list[SurveyFinding], Field(description="Faults first. Empty: the survey looks plausible.")]
    would_publish: Annotated[
        bool, Field(description="Whether the same request without `dryRun` would be published. false: read `findings`.")
    ]
