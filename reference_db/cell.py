"""A cell: one base station with its antenna array, its carrier and its position on Earth."""

import math
from collections.abc import Callable
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from reference_db.cell_id import CELL_ID_PATTERN

CellId = Annotated[str, Field(pattern=CELL_ID_PATTERN)]


def _check_yaw(yaw: float) -> float:
    if abs(yaw) > 2 * math.pi:
        degrees = f"; {yaw:g} looks like degrees" if abs(yaw) <= 360 else ""
        raise ValueError(f"yaw is in radians, at most 2π{degrees}")
    return yaw


Yaw = Annotated[float, AfterValidator(_check_yaw)]


# Fields that came later are written only where they say something: manifests from before keep their digests.
def _is_one(value: object) -> bool:
    return value == 1


def _is_none(value: object) -> bool:
    return value is None


class AntennaArray(BaseModel):
    """A uniform rectangular array of `rows` x `columns` elements; a linear array has one row.

    `spacing` is the distance between neighbouring elements in wavelengths. CSI numbers the elements row by row: element
    `row * columns + column`. Row 0 is at the bottom. Column 0 is at the right seen from behind the array. With two
    `polarisations`, slanted by 45 degrees to either side, all elements of the first come before those of the second.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rows: int = Field(ge=1, le=256)
    columns: int = Field(ge=1, le=256)
    spacing: float = Field(default=0.5, gt=0, le=100)
    polarisations: Literal[1, 2] = Field(default=1, exclude_if=_is_one)

    @property
    def lines(self) -> int:
        """Rows of elements of one polarisation each."""
        return self.polarisations * self.rows

    @property
    def antennas(self) -> int:
        return self.lines * self.columns


class Area(BaseModel):
    """A rectangle in metres east and north of a base station, including its edges."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    west: float
    south: float
    east: float
    north: float

    @model_validator(mode="after")
    def _has_sides(self) -> Self:
        if not (self.west < self.east and self.south < self.north):
            raise ValueError("west must be less than east, and south less than north")
        return self

    def holds(self, positions: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Whether each of positions `[n, 2]` lies inside: bool `[n]`."""
        east, north = positions.T
        with np.errstate(over="ignore"):  # an edge beyond the range of float32 becomes infinite and excludes nothing
            inside: NDArray[np.bool_] = (
                (east >= self.west) & (east <= self.east) & (north >= self.south) & (north <= self.north)
            )
        return inside


class Cell(BaseModel):
    """The description of a cell, which does not change with its fingerprints.

    Latitude and longitude (WGS84, degrees) locate the base station, which is the origin of the cell's east-north
    frame. `height` is in metres above the ground at the base station, `yaw` the direction of the array's broadside in
    radians counter-clockwise from east. `carrier_frequency` and `bandwidth` are in hertz. If `area` is set, no
    fingerprint may lie outside it. `survey_sto` and `user_sto` are the 1-sigma sampling-time offsets of the radios that
    measured the fingerprints and of those that are located, in seconds: 0 for synchronised radios, None if unknown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    cell_id: CellId
    latitude_deg: float = Field(ge=-90, le=90)
    longitude_deg: float = Field(ge=-180, le=180)
    height: float = Field(ge=-1e3, le=1e5)
    yaw: Yaw
    array: AntennaArray
    carrier_frequency: float = Field(ge=1e6, le=1e12)
    bandwidth: float = Field(gt=0)
    subcarriers: int = Field(ge=1, le=65536)
    area: Area | None = None
    survey_sto: float | None = Field(default=None, ge=0, le=1e-3, exclude_if=_is_none)
    user_sto: float | None = Field(default=None, ge=0, le=1e-3, exclude_if=_is_none)

    @model_validator(mode="after")
    def _bandwidth_fits_the_carrier(self) -> Self:
        if self.bandwidth >= 2 * self.carrier_frequency:
            raise ValueError("bandwidth must be below twice the carrier frequency")
        return self

    @property
    def antennas(self) -> int:
        return self.array.antennas


def describe_errors(error: ValidationError) -> str:
    """What is wrong with a description, each field in one sentence."""
    return "; ".join(list_errors(error))


def list_errors(error: ValidationError, rename: Callable[[str], str] = str) -> list[str]:
    """What is wrong with a description, a sentence for each field under its name as `rename` gives it."""
    return [
        ": ".join(
            [
                *[".".join(rename(str(part)) for part in one["loc"])] * bool(one["loc"]),
                one["msg"].removeprefix("Value error, "),
            ]
        )
        for one in error.errors(include_url=False, include_context=False, include_input=False)
    ]
