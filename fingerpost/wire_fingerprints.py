"""Fingerprints as they go over the wire."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from fingerpost.wire import Csi, East, Latitude, Longitude, North
from fingerpost.wire_cells import CellArea, CellInput
from fingerpost.wire_model import Timestamp, WireModel, WireRequest, null_means, optional

DEFAULT_SIGMA = 0.05  # metres; that of `reference_db.fingerprint_arrays`

FingerprintName = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$", description="The id of a fingerprint.")]
Sigma = Annotated[float, Field(gt=0, le=100, description="1-sigma error of the position, metres.")]
UnknownTime = Annotated[
    bool,
    Field(description="Selects fingerprints of unknown time. With `measuredBefore`: those measured before it as well."),
]


class FingerprintInput(WireRequest):
    """CSI and the position where it was measured: lat and lon, or x and y."""

    csi: Csi
    lat: Latitude | None = optional()
    lon: Longitude | None = optional()
    x: East | None = optional()
    y: North | None = optional()
    time: Timestamp | None = optional("When the CSI was measured. Absent: unknown.")
    sigma: Annotated[Sigma, null_means(DEFAULT_SIGMA, Sigma)] = DEFAULT_SIGMA


class CellBody(WireRequest):
    """A cell's description, its fingerprints, or both.

    A cell that exists keeps its description if `cell` is absent. A new cell may start without fingerprints.
    """

    cell: CellInput | None = optional()
    fingerprints: Annotated[list[FingerprintInput], Field(min_length=1)] | None = optional()


class FingerprintsBody(WireRequest):
    """Fingerprints to add to a cell."""

    fingerprints: Annotated[list[FingerprintInput], Field(min_length=1)]


class ListedFingerprint(WireModel):
    """Metres east and north of the base station. `sigma` is the 1-sigma error of the position, metres."""

    id: str
    x: float
    y: float
    time: datetime | None = optional("When the CSI was measured. Absent: unknown.")
    sigma: float


class FingerprintList(WireModel):
    """A page of a version's fingerprints, in the order of the version. Name the version to read it page by page."""

    version: str
    count: Annotated[int, Field(description="The number of fingerprints of the version.")]
    fingerprints: list[ListedFingerprint]
    next: str | None = optional("The value of `after` for the next page. Absent on the last page.")


class Circle(WireRequest):
    """All positions within `radius` metres of a place."""

    lat: Latitude
    lon: Longitude
    radius: Annotated[float, Field(gt=0, le=1e6)]


class Selection(WireRequest):
    """The fingerprints that meet all criteria given. At least one criterion is required."""

    ids: Annotated[list[FingerprintName], Field(min_length=1, fail_fast=True)] | None = optional()
    area: CellArea | None = optional()
    circle: Circle | None = optional()
    measured_before: Timestamp | None = optional(
        "Selects fingerprints measured before this time, and none of unknown time unless `unknownTime` is true."
    )
    unknown_time: Annotated[UnknownTime, null_means(False, UnknownTime)] = False


class Preview(WireModel):
    """The fingerprints that a deletion would remove from a version."""

    version: str
    selected: int
    fingerprints: Annotated[int, Field(description="The number of fingerprints of the version.")]


class FingerprintError(WireModel):
    """How far from its label a fingerprint is located. `x`, `y`: metres east and north of the base station."""

    id: str
    x: float
    y: float
    error: Annotated[
        float | None, Field(description="Metres between label and estimate. null: the model has no estimate.")
    ]


class ErrorMap(WireModel):
    """The errors of a random sample of fingerprints. A larger sample begins with the smaller one."""

    version: str
    artifact: Annotated[str, Field(description="The digest of the artifact that located the fingerprints.")]
    count: Annotated[int, Field(description="The number of fingerprints of the version.")]
    errors: list[FingerprintError]


class Forgotten(WireModel):
    """What was forgotten."""

    version: Annotated[str, Field(description="The version that was published without these fingerprints.")]
    forgotten: Annotated[
        int,
        Field(description="Fingerprints taken out of the current version, with those that were deleted before."),
    ]
    removed_versions: Annotated[list[int], Field(description="Numbers of the versions that held them; all are gone.")]
    fingerprints: Annotated[int, Field(description="The number of fingerprints that the cell has left.")]
    gone_at: Annotated[
        datetime, Field(description="The reference database holds none of the fingerprints from this moment on.")
    ]


class ForgettingPreview(WireModel):
    """What would be forgotten."""

    version: str
    fingerprints: Annotated[
        int, Field(description="Selected fingerprints of the current version, with those that were deleted before.")
    ]
    versions: Annotated[list[int], Field(description="Numbers of the versions that hold one of them.")]
