"""The scenarios of the experiments: one traced street each, its fingerprints, and users to locate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.errors import TrainerError
from models.frozen import FrozenModel
from models.radio.cells import observe_cell
from models.radio.front_end import Radio
from models.radio.path_table import PathTable
from models.radio.rain import let_it_rain
from models.radio.street_changes import find_street
from models.radio.tracing import BadCellRange, band_folder, parse_cells, table_path
from reference_db import References
from reference_db.index.position import PositionIndex

NEIGHBOURS = 64  # the paper's n, in training
REGION_M = 12.0  # width of the stretch across the street that a survey leaves out

_Csi = NDArray[np.complex64]
_Floats = NDArray[np.float32]


class TooFewUsers(TrainerError):
    """Paths reach too few users of a street."""


class StreetOf(FrozenModel):
    """``cell`` as in ``munich:0``. ``state`` is that of its street, none if it is bare.

    ``users_in`` is another state, in which users are located by fingerprints of the first: a street that has changed
    since its survey. ``rain`` in millimetres an hour falls on fingerprints and users. ``region`` is left out of the
    survey, and users are located in it only. ``carrier_frequency`` and ``bandwidth`` in hertz replace the radio's.
    """

    cell: str
    state: str | None = None
    users_in: str | None = None
    rain: float = Field(0.0, ge=0)
    region: bool = False
    carrier_frequency: float | None = None
    bandwidth: float | None = None


@dataclass(frozen=True)
class Snapshots:
    csi: _Csi  # [n, antennas, subcarriers]
    positions: _Floats  # [n, 2] metres from the base station

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True)
class Street:
    """``survey``: all fingerprints. ``users``: those to locate, who are not in the survey."""

    name: str
    radio: Radio
    carrier_frequency: float
    survey: Snapshots
    users: Snapshots


@dataclass(frozen=True, eq=False)
class Survey:
    """The first fingerprints of a street, as models learn from them. ``csi`` has a root mean square of one."""

    street: Street
    csi: _Csi  # [r, a, s]
    positions: _Floats  # [r, 2]
    scale: float  # root mean square of the CSI before

    @classmethod
    def of(cls, street: Street, references: int | None) -> Survey:
        """Of this many fingerprints, of all by default. Raises `TooFewUsers`."""
        count = len(street.survey) if references is None else references
        if count > len(street.survey):
            raise TooFewUsers(f"{street.name} has {len(street.survey)} fingerprints; {count} were asked for")
        csi, positions = street.survey.csi[:count], street.survey.positions[:count]
        scale = float(np.sqrt(np.square(np.abs(csi)).mean()))
        return cls(street, csi / np.complex64(scale), positions, scale)

    @cached_property
    def index(self) -> PositionIndex:
        return PositionIndex(self.positions)

    @cached_property
    def references(self) -> References:
        """The fingerprints as the service searches them."""
        return References.of(self.positions, self.csi)

    @cached_property
    def neighbourhoods(self) -> NDArray[np.int64]:
        """Rows [r, n + 1] of each fingerprint's `NEIGHBOURS` nearest ones, itself first."""
        return self.index.nearest(self.positions, min(NEIGHBOURS + 1, len(self.positions)))[0]


def list_tables(of: StreetOf, paths: Path) -> list[Path]:
    """The path tables of a street: of its survey, and of its users where these are in another state.

    Raises `BadCellRange` for a wrong ``cell`` and `UnknownStreetState`.
    """
    cells = parse_cells([of.cell])
    if len(cells) > 1:
        raise BadCellRange(f"{of.cell!r} names {len(cells)} cells; a street is one")
    folder = band_folder(paths, of.carrier_frequency) if of.carrier_frequency else paths
    states = [of.state] if of.users_in is None else [of.state, of.users_in]
    streets = [None if state is None else find_street(state) for state in states]
    return [table_path(folder, *cells[0], street=street) for street in streets]


def load_street(name: str, of: StreetOf, radio: Radio, carrier_frequency: float, users: int, paths: Path) -> Street:
    """A street from its path tables, with ``users`` users to locate, the last ones that paths reach.

    Raises `PathTablesMissing`, `TooFewUsers`, `BadCellRange` for a wrong ``cell`` and `UnknownStreetState`.
    """
    carrier = of.carrier_frequency or carrier_frequency
    seen_by = radio if of.bandwidth is None else radio.model_copy(update={"bandwidth": of.bandwidth})

    def load(path: Path) -> Snapshots:
        table = PathTable.load(path)
        if of.rain:
            table = let_it_rain(table, of.rain)
        observed = observe_cell(table, seen_by, table.site.yaw)
        return Snapshots(observed.csi, observed.positions)

    tables = list_tables(of, paths)
    surveyed = load(tables[0])
    if len(surveyed) <= users:
        raise TooFewUsers(f"{name}: paths reach {len(surveyed)} users of {of.cell}, and {users} are to be located")
    if of.users_in is not None:
        survey, located = _first(surveyed, len(surveyed) - users), _last(load(tables[-1]), users)
    elif of.region:
        inside = _find_region(surveyed.positions)
        survey, located = _rows(surveyed, ~inside), _last(_rows(surveyed, inside), users)
    else:
        survey, located = _first(surveyed, len(surveyed) - users), _last(surveyed, users)
    return Street(name, seen_by, carrier, survey, located)


def _find_region(positions: _Floats) -> NDArray[np.bool_]:
    """bool [n]: within half of `REGION_M` of the middle, along the direction in which the street is longest."""
    centred = positions - positions.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    along = centred @ directions[0]
    inside: NDArray[np.bool_] = np.abs(along - np.median(along)) < REGION_M / 2
    return inside


def _rows(snapshots: Snapshots, rows: NDArray[np.bool_] | slice) -> Snapshots:
    return Snapshots(snapshots.csi[rows], snapshots.positions[rows])


def _first(snapshots: Snapshots, count: int) -> Snapshots:
    return _rows(snapshots, slice(0, count))


def _last(snapshots: Snapshots, count: int) -> Snapshots:
    return _rows(snapshots, slice(max(0, len(snapshots) - count), None))
