"""Tables in CSV: one fingerprint a row, and one column for each number.

Columns of CSI are `csi_ANTENNA_SUBCARRIER_re` and `csi_ANTENNA_SUBCARRIER_im`, counted from 0 or from 1, or without
the part and with complex numbers such as `0.1-0.2j`. With one number, `csi_K_re`, they count along both axes.
"""

import csv
import math
import re
from array import array
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference_db.errors import BadFingerprintFile
from reference_db.sources.field_names import is_name_of
from reference_db.sources.source import Source, Variable

_CSI = re.compile(
    r"(?:csi|h|cfr)[_ ]?[\[(]?(\d{1,9})(?:[_,. ]\s*(\d{1,9}))?[\])]?(?:_?(re|im|real|imag))?", re.IGNORECASE
)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


class _Place(NamedTuple):
    """Where the numbers of a column of CSI belong."""

    indices: tuple[int, ...]
    part: str | None  # "r", "i"; None: the column has complex numbers


def open_csv(path: Path) -> Source:
    """Raises `BadFingerprintFile` or `OSError`."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            rows = csv.reader(file, delimiter=max(",;\t", key=first.count))
            names = [name.strip() for name in next(rows, [])]
            columns = _read_columns(rows, names, path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadFingerprintFile(f"it is not a table in CSV: {error}") from error
    places: dict[_Place, str] = {}
    for name in columns:
        if (place := _find_place(name)) is None:
            continue
        if (other := places.setdefault(place, name)) != name:
            raise BadFingerprintFile(f"the columns {other} and {name} are the same number of CSI")
    variables = {name: Variable.of(values) for name, values in columns.items() if name not in places.values()}
    if places:
        variables["csi"] = Variable.of(_join_csi({place: columns[name] for place, name in places.items()}))
        _check_complex(places, columns)
    return Source(variables)


def _read_columns(rows: Iterator[list[str]], names: list[str], path: Path) -> dict[str, NDArray[Any]]:
    if len(set(names)) < len(names) or not all(names):
        raise BadFingerprintFile("the first line must name each column, and each once")
    is_complex = [(place := _find_place(name)) is not None and place.part is None for name in names]
    columns = [array("d") for _ in names]
    for number, row in enumerate(rows, start=2):
        if not row:
            continue
        if len(row) != len(names):
            raise BadFingerprintFile(f"line {number} has {len(row)} values, the first line names {len(names)} columns")
        for name, text, column, whole in zip(names, row, columns, is_complex, strict=True):
            try:
                value = _read_complex(text) if whole else _read_number(name, text)
            except (ValueError, OverflowError) as error:
                raise BadFingerprintFile(
                    f"line {number}, column {name}: {text!r} is not a number{_explain(text)}"
                ) from error
            column.extend((value.real, value.imag) if isinstance(value, complex) else (value,))
    return {
        name: np.frombuffer(column, np.complex128 if whole else np.float64) if column else np.zeros(0)
        for name, column, whole in zip(names, columns, is_complex, strict=True)
    }


def _read_complex(text: str) -> complex:
    """Raises `ValueError`."""
    if "_" in text:
        raise ValueError(text)
    return complex(text.replace(" ", "").replace("i", "j"))


def _read_number(name: str, text: str) -> float:
    """A number, or in a column of times a date as Unix seconds. Raises `ValueError` or `OverflowError`."""
    if "_" in text:  # Python's own way to group digits
        raise ValueError(text)
    with suppress(ValueError):
        return float(text)
    if not is_name_of("times", name):
        raise ValueError(text)
    time = datetime.fromisoformat(text.strip())
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _explain(text: str) -> str:
    """Why a number may be none."""
    if _DECIMAL_COMMA.fullmatch(text.strip()):
        return "; decimals need a point, not a comma"
    return ""


def _check_complex(places: dict[_Place, str], columns: dict[str, NDArray[Any]]) -> None:
    """Raises `BadFingerprintFile` where columns of whole numbers of CSI are all real: amplitudes, or real parts."""
    whole = [columns[name] for place, name in places.items() if place.part is None]
    if any(len(values) for values in whole) and not any(np.imag(values).any() for values in whole):
        name = next(name for place, name in places.items() if place.part is None)
        raise BadFingerprintFile(
            f"{name} and the other columns of CSI hold real numbers; give real and imaginary parts in columns "
            f"{name}_re and {name}_im, or complex numbers such as 0.1-0.2j"
        )


def _find_place(name: str) -> _Place | None:
    found = _CSI.fullmatch(name)
    if found is None:
        return None
    first, second, part = found.groups()
    return _Place((int(first),) if second is None else (int(first), int(second)), part and part[0].lower())


def _join_csi(columns: dict[_Place, NDArray[Any]]) -> NDArray[np.complex64]:
    """Columns `[n]` as complex `[n, antennas, subcarriers]`, or `[n, k]` where they have one number."""
    indices = np.array(sorted({place.indices for place in columns}, key=len), dtype=object)
    ranks = {len(one) for one in indices}
    if len(ranks) > 1:
        raise BadFingerprintFile("some columns of CSI have one number in their names and others have two")
    places = np.array([place.indices for place in columns])
    base = places.min(axis=0)
    if (base > 1).any():
        raise BadFingerprintFile("columns of CSI must count from 0 or from 1")
    shape = tuple((places.max(axis=0) - base + 1).tolist())
    if math.prod(shape) > len(columns):  # too few columns, whatever their names: do not make room for them
        there = {tuple(place) for place in (places - base).tolist()}
        lacking = next(place for place in np.ndindex(shape) if place not in there)
        raise BadFingerprintFile(_describe_missing(lacking, base))
    n = len(next(iter(columns.values())))
    csi = np.zeros((n, *shape), np.complex64)
    count = np.zeros(shape, int)
    for place, values in columns.items():
        where = tuple((np.array(place.indices) - base).tolist())
        csi[(slice(None), *where)] += {"r": values, "i": 1j * values, None: values}[place.part]
        count[where] += 2 if place.part is None else 1
    if (count != 2).any():
        raise BadFingerprintFile(_describe_missing(np.argwhere(count != 2)[0], base))
    return csi


def _describe_missing(place: Iterable[int], base: NDArray[Any]) -> str:
    missing = "_".join(map(str, (np.asarray(place) + base).tolist()))
    return f"the columns csi_{missing}_re and csi_{missing}_im must both be there, once"
