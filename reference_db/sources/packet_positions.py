"""Positions of the packets of a Wi-Fi capture, from a table beside it: captures have none.

The table is `NAME.csv` for the capture `NAME.pcap`, or `positions.csv` in its folder. Its places are columns `x` and
`y`, or `lat` and `lon`; `sigma` is optional. It has one of two further columns:

- `packet`: the number of a packet in the capture, from 0. Other packets have no position.
- `time`: when the user was at the place. Between two rows of one place, packets have that place; between other rows at
  most two seconds apart, they have places on the line between them. Other packets have no position.

Packets without a position are left out.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference_db.errors import BadFingerprintFile
from reference_db.sources.csv_table import open_csv
from reference_db.sources.field_names import choose_variables

MOST_SECONDS = 2.0  # between two places that are joined by a line
_SHARED = "positions.csv"
_HINT = "write two rows for a point where the user stood: arrival and departure"
_PLACES = (("x", "y"), ("latitudes_deg", "longitudes_deg"))


class PlacedPackets(NamedTuple):
    """`rows`: the packets that have a position, ascending. `columns`: their places, and `sigmas` if there are any.

    `hint`: how the table could place more packets, if it may be wrong.
    """

    rows: NDArray[np.int64]
    columns: dict[str, NDArray[np.float64]]
    hint: str | None = None


def place_packets(capture: Path, times: NDArray[np.float64]) -> PlacedPackets:
    """The positions of packets that were captured at `times` `[n]`, in seconds as the table counts them.

    Raises `BadFingerprintFile` or `OSError`.
    """
    table = _find_table(capture)
    try:
        columns = _read_columns(table)
        if "packet" in columns:
            _refuse_to_share(table, capture)
            return _by_number(columns, len(times))
        return _by_time(columns, times)
    except BadFingerprintFile as error:
        raise BadFingerprintFile(f"{table.name}: {error}") from error


def _find_table(capture: Path) -> Path:
    own = capture.with_suffix(".csv")
    for table in (own, capture.parent / _SHARED):
        if table.is_file():
            return table
    raise BadFingerprintFile(
        f"a capture has no positions: write them into {own.name} or {_SHARED} beside it, with the columns time,x,y or "
        "packet,x,y"
    )


def _read_columns(table: Path) -> dict[str, NDArray[Any]]:
    """`packet` or `times`, two places, and perhaps `sigmas`."""
    source = open_csv(table)
    named = choose_variables(source, {})
    columns = {field: source.load(name) for field, name in named.items()}
    columns |= {name.lower(): source.load(name) for name in source.variables if name.lower() == "packet"}
    if not any(set(places) <= columns.keys() for places in _PLACES):
        raise BadFingerprintFile(f"it needs the columns x and y, or lat and lon; {source.describe()}")
    if {"packet", "times"} <= columns.keys():
        raise BadFingerprintFile(f"it has both packet and {named['times']}; keep one")
    if not {"packet", "times"} & columns.keys():
        raise BadFingerprintFile(f"it needs either the column packet or the column time; {source.describe()}")
    if not all(map(len, columns.values())):
        raise BadFingerprintFile("it has no rows")
    if not all(np.isfinite(values).all() for values in columns.values()):
        raise BadFingerprintFile("it has a number that is not finite")
    kept = ("packet", "times", "sigmas", *(name for places in _PLACES for name in places))
    return {name: values for name, values in columns.items() if name in kept}


def _refuse_to_share(table: Path, capture: Path) -> None:
    captures = [one.name for one in capture.parent.glob(f"*{capture.suffix}") if one.is_file()]
    if table.name == _SHARED and len(captures) > 1:
        raise BadFingerprintFile(
            f"it numbers packets, and there are {len(captures)} captures; call it {capture.stem}.csv, one for each"
        )


def _by_number(columns: dict[str, NDArray[Any]], packets: int) -> PlacedPackets:
    numbers = columns.pop("packet")
    there = (numbers >= 0) & (numbers < packets) & (numbers % 1 == 0)
    if not there.all():
        number = f"{numbers[there.argmin()]:.15g}"
        raise BadFingerprintFile(f"it names packet {number}, which is not there; the capture has 0 to {packets - 1}")
    rows = numbers.astype(np.int64)
    order = np.argsort(rows, kind="stable")
    twice = rows[order][1:][np.diff(rows[order]) == 0]
    if len(twice):
        raise BadFingerprintFile(f"it names packet {twice[0]} twice")
    return PlacedPackets(rows[order], {name: values[order] for name, values in columns.items()})


def _by_time(columns: dict[str, NDArray[Any]], times: NDArray[np.float64]) -> PlacedPackets:
    known = columns.pop("times")
    if len(known) < 2 or (np.diff(known) <= 0).any():
        raise BadFingerprintFile("it needs two rows or more, and their times must ascend")
    after = np.clip(np.searchsorted(known, times), 1, len(known) - 1)
    before = after - 1
    places = np.stack([columns[name] for pair in _PLACES for name in pair if name in columns], axis=1)
    stays = (places[before] == places[after]).all(axis=1)
    near = known[after] - known[before] <= MOST_SECONDS
    there = (times == known[before]) | (times == known[after])
    inside = (times >= known[before]) & (times <= known[after])
    rows = np.flatnonzero(there | (inside & (stays | near)))
    if not len(rows):
        raise BadFingerprintFile(
            f"no packet has a position: packets go from {times.min():.3f} to {times.max():.3f} s, the table from "
            f"{known[0]:.3f} to {known[-1]:.3f} s, and places that differ must be at most {MOST_SECONDS:g} s apart"
        )
    placed = {name: np.interp(times[rows], known, values) for name, values in columns.items()}
    repeats = (places[1:] == places[:-1]).all(axis=1).any()
    return PlacedPackets(rows, placed, None if repeats or len(rows) == len(times) else _HINT)
