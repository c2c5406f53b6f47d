"""How a file lays out its arrays, and the way from there to the one convention.

The convention is CSI `[samples, antennas, subcarriers]`, antennas row by row, subcarriers by ascending frequency, a
path of delay tau as exp(-j 2 pi f tau), and positions in metres.
"""

import math
from collections.abc import Mapping
from itertools import permutations
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, ValidationError, field_validator

from reference_db.cell import Cell, describe_errors
from reference_db.errors import BadFingerprintFile
from reference_db.sources.field_names import FIELDS

SubcarrierOrder = Literal["ascending", "descending", "fft"]
Units = Literal["m", "km", "cm", "mm", "ft", "deg"]

_Arrays = dict[str, NDArray[Any]]

_CONVENTION = ("samples", "antennas", "subcarriers")
_OF_ANTENNAS = ("polarisations", "rows", "columns")
_REIM = "reim"
_AXES = frozenset((*_CONVENTION, *_OF_ANTENNAS, _REIM))
_METRES = {"m": 1.0, "km": 1e3, "cm": 1e-2, "mm": 1e-3, "ft": 0.3048}
_VECTORS = ("x", "y", "latitudes_deg", "longitudes_deg", "times", "sigmas")


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


class Layout(BaseModel):
    """What differs from the convention in a file.

    `axes` names the axes of the CSI from the slowest to the fastest: `samples`, `antennas`, `subcarriers`; instead of
    `antennas` also `polarisations`, `rows` and `columns`; `reim` for real and imaginary part. A minus before a name
    reverses that axis. `samples` comes first if it is not named. `conjugate`: the CSI has the other sign of phase.
    `subcarrier_step`: 2 takes every second subcarrier, and so on, the carrier among them. `units` of the positions;
    `deg`: latitude, longitude. `origin`: x and y of the base station in the file's coordinates, in these units; not for
    degrees. `fields`: the variable of each field, where its name does not say so.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    axes: Annotated[tuple[str, ...], BeforeValidator(_split)] = _CONVENTION
    conjugate: bool = False
    subcarrier_order: SubcarrierOrder = "ascending"
    subcarrier_step: int = Field(default=1, ge=1)
    units: Units = "m"
    origin: Annotated[tuple[FiniteFloat, FiniteFloat], BeforeValidator(_split)] = (0.0, 0.0)
    fields: Mapping[str, str] = Field(default_factory=dict)

    @classmethod
    def read(cls, **options: object) -> "Layout":
        """Raises `BadFingerprintFile` for an option that no layout has."""
        try:
            return cls.model_validate(options)
        except ValidationError as error:
            raise BadFingerprintFile(describe_errors(error)) from error

    @field_validator("axes")
    @classmethod
    def _check_axes(cls, axes: tuple[str, ...]) -> tuple[str, ...]:
        names = [axis.removeprefix("-") for axis in axes]
        for name in names:
            if name not in _AXES:
                raise ValueError(f"no axis is called {name!r}; there are {', '.join(sorted(_AXES))}")
            if names.count(name) > 1:
                raise ValueError(f"the axis {name} is named twice")
        if "antennas" in names and set(names) & set(_OF_ANTENNAS):
            raise ValueError("name either antennas, or rows and columns")
        return axes if "samples" in names else ("samples", *axes)

    @field_validator("fields")
    @classmethod
    def _check_fields(cls, fields: Mapping[str, str]) -> Mapping[str, str]:
        for field in fields:
            if field not in FIELDS:
                raise ValueError(f"no field is called {field!r}; there are {', '.join(FIELDS)}")
        return fields

    def lay_out(self, arrays: _Arrays, cell: Cell | None) -> _Arrays:
        """The arrays of a file by their fields, in the convention. Takes those that `FIELDS` names.

        `cell` is needed where axes are joined in the file. Raises `BadFingerprintFile`.
        """
        made = dict(arrays)
        self._join_positions(made)
        if "csi_real" in made or "csi_imag" in made:
            made["csi"] = _join_parts(made)
        if "scale" in made and "csi" in made and np.iscomplexobj(made["csi"]):
            raise BadFingerprintFile("scale is only allowed with csi of real pairs")
        if "csi" in made and not (self == CONVENTION and _may_be_convention(made["csi"])):
            made["csi"] = self._lay_out_csi(made["csi"], cell, _count_labels(made))
            if "scale" in made:
                scale = made.pop("scale")
                _check_numbers("scale", scale, "fiu", (len(made["csi"]),))
                made["csi"] = made["csi"] * scale[:, None, None]
        elif "csi" in made:
            _check_samples(made["csi"], _count_labels(made), cell)
        return made

    def _lay_out_csi(self, csi: NDArray[Any], cell: Cell | None, samples: int | None) -> NDArray[Any]:
        axes = self.axes
        _check_numbers("csi", csi, "fiuc")
        if not np.iscomplexobj(csi) and _REIM not in self._names and csi.shape[-1:] == (2,) and csi.ndim > 1:
            axes = (*axes, _REIM)
        names = [axis.removeprefix("-") for axis in axes]
        if not np.iscomplexobj(csi) and _REIM not in names:
            raise BadFingerprintFile(
                f"csi is {csi.dtype} {list(csi.shape)}: real numbers. Name the axis of real and imaginary part in "
                "--axes (reim), or give both as csi_real and csi_imag"
            )
        shape = list(csi.shape)
        csi = _split_axes(csi, names, cell, samples)
        csi = np.flip(csi, tuple(place for place, axis in enumerate(axes) if axis.startswith("-")))
        order = [
            name for name in ("samples", *(_OF_ANTENNAS if "antennas" not in names else ["antennas"])) if name in names
        ]
        order += [name for name in ("subcarriers", _REIM) if name in names]
        csi = csi.transpose([names.index(name) for name in order])
        lengths = dict(zip(order, csi.shape, strict=True))
        antennas = math.prod(lengths.get(name, 1) for name in ("antennas", *_OF_ANTENNAS))
        pair = (2,) if _REIM in names else ()
        csi = csi.reshape(lengths["samples"], antennas, lengths.get("subcarriers", 1), *pair)
        if pair:
            csi = _join_parts({"csi_real": csi[..., 0], "csi_imag": csi[..., 1]})
        if samples is not None and len(csi) != samples:
            raise BadFingerprintFile(
                f"csi is {shape} and there are {samples} positions, but {len(csi)} samples with these axes; "
                + _suggest_axes(tuple(shape), samples, cell)
            )
        if self.subcarrier_order == "fft":
            csi = np.fft.fftshift(csi, axes=-1)
        elif self.subcarrier_order == "descending":
            csi = csi[..., ::-1]
        if self.subcarrier_step > 1:
            csi = csi[..., csi.shape[-1] // 2 % self.subcarrier_step :: self.subcarrier_step]
        return csi.conj() if self.conjugate else csi

    @property
    def _names(self) -> list[str]:
        return [axis.removeprefix("-") for axis in self.axes]

    def _join_positions(self, made: _Arrays) -> None:
        """Makes `positions` in metres, or degrees, of what the file has."""
        given = sorted({"x", "y"} & made.keys())
        if given and "positions" in made:
            raise BadFingerprintFile(
                f"the file has both {' and '.join(given)} and positions; choose with --field positions=NAME"
            )
        if len(given) == 1:
            raise BadFingerprintFile(f"the file has {given[0]} alone; positions need both x and y")
        if given and self.units == "deg":
            raise BadFingerprintFile(
                "x and y are distances east and north, not degrees; name degrees lat and lon, or state "
                "--field latitudes_deg=NAME and --field longitudes_deg=NAME"
            )
        if given:
            x, y = made.pop("x"), made.pop("y")
            _check_numbers("x", x, "fiu")
            _check_numbers("y", y, "fiu", x.shape)
            made["positions"] = np.stack([x, y], axis=-1)
        if any(self.origin) and ("positions" not in made or self.units == "deg"):
            raise BadFingerprintFile("the origin is for positions that are distances, and the file has none")
        if "positions" not in made:
            return
        positions = made["positions"]
        _check_numbers("positions", positions, "fiu")
        if _lies_on_its_side(positions):
            positions = positions.T
        if positions.ndim == 2 and positions.shape[1] == 3:
            positions = positions[:, :2]  # heights are not used
        if self.units == "deg":
            if {"latitudes_deg", "longitudes_deg"} & made.keys():
                raise BadFingerprintFile("the file has positions in metres and in degrees; choose with --field")
            if positions.ndim != 2 or positions.shape[1] != 2:
                raise BadFingerprintFile(
                    f"positions is {list(positions.shape)}, expected latitude and longitude [n, 2]"
                )
            made["latitudes_deg"], made["longitudes_deg"] = positions.T
            del made["positions"]
        else:
            factor = _METRES[self.units]
            if any(self.origin) and (positions.ndim != 2 or positions.shape[1] != 2):
                raise BadFingerprintFile(f"positions is {list(positions.shape)}, expected real numbers [n, 2]")
            if factor != 1 or any(self.origin):
                # What float16 has rounded stays float16: its type says how exact the positions are.
                kept = positions.dtype if positions.dtype == np.float16 else np.dtype(np.float64)
                positions = ((positions.astype(np.float64) - self.origin) * factor).astype(kept)
            made["positions"] = positions


CONVENTION = Layout()


def loosen(arrays: _Arrays) -> _Arrays:
    """Vectors of two dimensions as `[n]`, and a scalar sigma or time for each row, as MATLAB's programs mean them."""
    made = {
        name: array.reshape(-1) if name in _VECTORS and array.ndim == 2 and 1 in array.shape else array
        for name, array in arrays.items()
    }
    count = _count_labels(made)
    for name in ("sigmas", "times"):
        if count is not None and name in made and made[name].size == 1:
            made[name] = np.full(count, made[name].reshape(-1)[0])
    return made


def _check_numbers(name: str, array: NDArray[Any], kinds: str, shape: tuple[int, ...] | None = None) -> None:
    """Raises `BadFingerprintFile` for an array whose kind of dtype is none of `kinds`, or of another shape."""
    if array.dtype.kind not in kinds or shape not in (None, array.shape):
        expected = "numbers" if "c" in kinds else "real numbers"
        stated = "" if shape is None else f" {list(shape)}"
        raise BadFingerprintFile(f"{name} is {array.dtype} {list(array.shape)}, expected {expected}{stated}")


def _join_parts(made: _Arrays) -> NDArray[Any]:
    """CSI of its real and its imaginary part, which are taken out of `made`."""
    if not {"csi_real", "csi_imag"} <= made.keys() or "csi" in made:
        raise BadFingerprintFile("real and imaginary part need both csi_real and csi_imag, and no csi")
    real, imaginary = made.pop("csi_real"), made.pop("csi_imag")
    _check_numbers("csi_real", real, "fiu")
    _check_numbers("csi_imag", imaginary, "fiu", real.shape)
    with np.errstate(over="ignore"):  # overflow becomes infinity, which is reported with its row
        csi = np.empty(real.shape, np.complex64)
        csi.real, csi.imag = real, imaginary
    return csi


def _may_be_convention(csi: NDArray[Any]) -> bool:
    return (csi.ndim == 3 and np.iscomplexobj(csi)) or (csi.ndim == 4 and csi.shape[-1] == 2 and csi.dtype.kind in "fi")


def _count_labels(arrays: _Arrays) -> int | None:
    """The number of fingerprints, by the positions of a file."""
    for name in ("positions", "latitudes_deg", "x"):
        if name in arrays and arrays[name].ndim:
            return int(arrays[name].shape[1 if name == "positions" and _lies_on_its_side(arrays[name]) else 0])
    return None


def _lies_on_its_side(positions: NDArray[Any]) -> bool:
    """Whether positions are `[2, n]` or `[3, n]`."""
    return positions.ndim == 2 and positions.shape[1] not in (2, 3) and positions.shape[0] in (2, 3)


def _check_samples(csi: NDArray[Any], samples: int | None, cell: Cell | None) -> None:
    """Raises `BadFingerprintFile` where the first axis cannot be that of the samples, but another can."""
    if samples is None or len(csi) == samples or samples not in csi.shape[:3]:
        return
    raise BadFingerprintFile(
        f"csi is {list(csi.shape)} and there are {samples} positions, so its first axis is not that of the samples; "
        + _suggest_axes(csi.shape[:3], samples, cell)
    )


def _suggest_axes(shape: tuple[int, ...], samples: int | None, cell: Cell | None) -> str:
    """The axes that CSI of this shape may have."""
    known = {"samples": samples}
    if cell is not None:
        known |= {"antennas": cell.antennas, "subcarriers": cell.subcarriers}
    fitting = [
        ",".join(names)
        for names in permutations(_CONVENTION)
        if len(shape) == 3 and all(known.get(name) in (None, length) for name, length in zip(names, shape, strict=True))
    ]
    if not fitting:
        return "name its axes, such as --axes samples,subcarriers,antennas"
    return "it fits " + " or ".join(f"--axes {names}" for names in fitting)


def _split_axes(csi: NDArray[Any], names: list[str], cell: Cell | None, samples: int | None) -> NDArray[Any]:
    """CSI with one axis for each name. An array that joins neighbouring axes is split by the cell's description."""
    if csi.ndim == len(names):
        if _REIM in names and csi.shape[names.index(_REIM)] != 2:
            raise BadFingerprintFile(f"csi is {list(csi.shape)}; the axis reim must be 2 long")
        return csi
    if cell is None:
        raise BadFingerprintFile(
            f"csi is {list(csi.shape)}, and --axes names {len(names)} axes; give the cell's description to split it"
        )
    array = cell.array
    lengths = {
        "antennas": cell.antennas,
        "polarisations": array.polarisations if "polarisations" in names else 1,
        "rows": array.lines if "polarisations" not in names else array.rows,
        "columns": array.columns,
        "subcarriers": cell.subcarriers,
        _REIM: 2,
    }
    others = math.prod(lengths[name] for name in names if name != "samples")
    count = csi.size // others
    expected = tuple(count if name == "samples" else lengths[name] for name in names)
    if math.prod(expected) != csi.size or not _joins(csi.shape, expected):
        raise BadFingerprintFile(
            f"csi is {list(csi.shape)}; with the axes {','.join(names)} of this cell it must be {list(expected)}, "
            f"or with some of them joined; {_suggest_axes(csi.shape, samples, cell)}"
        )
    return csi.reshape(expected)


def _joins(shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    """Whether `shape` is `expected` with some neighbouring axes joined."""
    left = [length for length in expected if length != 1]
    for length in shape:
        product = 1
        while product < length and left:
            product *= left.pop(0)
        if product != length:
            return False
    return not left
