"""Versions of cells as they go over the wire."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from fingerpost.wire_cells import CellModel
from fingerpost.wire_model import WireModel, WireRequest, optional


class VersionFinding(WireModel):
    """What is implausible about a version's fingerprints, and what to do."""

    name: str
    severity: Annotated[
        Literal["refused", "warning"], Field(description="`refused`: the version was published by force.")
    ]
    reason: str
    advice: str


class VersionSummary(WireModel):
    """A version in short. `added` and `removed` count fingerprints."""

    version: str
    number: int
    digest: str
    parent: Annotated[str | None, Field(description="The digest of the version before. null: this is the first.")]
    created_at: datetime
    author: str
    action: str
    added: int
    removed: int
    note: str
    model: CellModel
    fingerprints: int
    calibrated_on: int | None = optional(
        "The number of the version on whose fingerprints this version's stated circles were measured. Absent: the "
        "version has no circles, or does not say."
    )
    findings: list[VersionFinding] | None = optional("Absent where the fingerprints look plausible.")


class VersionList(WireModel):
    """Newest first."""

    versions: list[VersionSummary]
    unreadable: list[int] | None = optional("Numbers of versions that are damaged.")
    next: int | None = optional("The value of `before` for the next page. Absent on the last page.")


class FieldChange(WireModel):
    """The values of a field in the two versions."""

    field: str
    before: Any
    after: Any


class FingerprintChange(WireModel):
    """Fingerprints that only one of the two versions has."""

    count: int
    ids: Annotated[list[str], Field(description="At most the first thousand ids.")]
    complete: Annotated[bool, Field(description="Whether `ids` holds all ids.")]


class VersionSide(WireModel):
    """One of the two versions."""

    version: str
    fingerprints: int
    extent: Annotated[
        list[float] | None, Field(description="West, south, east, north in metres. null: there are no fingerprints.")
    ]


class VersionDiff(WireModel):
    """The differences between version `before` and version `after`."""

    before: VersionSide
    after: VersionSide
    added: FingerprintChange
    removed: FingerprintChange
    description: list[FieldChange]
    retention: list[FieldChange]
    model: list[FieldChange]


def _check_name_or_number(value: object) -> object:
    """Where neither fits, pydantic names the members of the union as if they were fields."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("Input should be a string or an integer")
    return value


class Rollback(WireRequest):
    """The version to publish again."""

    version: Annotated[
        str | int,
        Field(description="The name of a version, or its number.", examples=["3"]),
        BeforeValidator(_check_name_or_number),
    ]


class RemovedVersions(WireModel):
    """Versions of one cell that were removed, and what that freed."""

    cell_id: str
    versions: Annotated[list[int], Field(description="The numbers of the versions.")]
    segments: Annotated[int, Field(description="Stored segments of fingerprints that no other version used.")]
    bytes: int


class CollectedVersions(WireModel):
    """The versions that were removed; with `dryRun`, that would be removed. Cells with none are left out."""

    dry_run: bool
    cells: list[RemovedVersions]
    unreadable: list[str] | None = optional("Cells that keep their old versions because some are damaged.")
