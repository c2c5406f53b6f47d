"""How held-out cells are observed: by a radio design, with nothing or with vehicles in their streets."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.mateformer.conditions import Condition, Streets
from models.mateformer.designs import BASE, Design, find_design
from models.mateformer.evaluation import Bound
from models.mateformer.recipe import MateformerRecipe
from models.radio.bound import position_error_bound
from models.radio.cells import RadioCell, observe_cell
from models.radio.path_table import PathTable, PathTablesMissing, require_tables
from models.radio.tracing import table_path

CLEAN_SNR_DB = 30.0  # assumed by the bound where the CSI is clean: there is no bound without noise

Place = tuple[str, int]  # of a cell, as `parse_cells` gives it


class Observation(NamedTuple):
    """The name of a radio design, and what stands in the street of the references and in that of the users."""

    design: str
    streets: Streets | None

    def describe(self, recipe: MateformerRecipe) -> str:
        label = find_design(self.design, recipe).label
        return (
            label if self.streets is None else f"{label}, references in {self.streets[0]}, users in {self.streets[1]}"
        )


class CellTables(NamedTuple):
    """The path tables of a cell's references and of its users: two, or twice the same."""

    survey: Path
    users: Path


class Observed(NamedTuple):
    """A cell whose first users are its references, and the bound of its users."""

    cell: RadioCell
    bound: Bound


def group_conditions(conditions: Iterable[Condition]) -> dict[Observation, list[Condition]]:
    """The conditions under which a cell is observed alike. The bare street and the recipe's radio come first."""
    groups: dict[Observation, list[Condition]] = {}
    for condition in sorted(conditions, key=lambda one: (one.design != BASE, one.streets is not None)):
        groups.setdefault(Observation(condition.design, condition.streets), []).append(condition)
    return groups


def find_tables(
    recipe: MateformerRecipe, folder: Path, observations: Iterable[Observation], cells: Iterable[Place]
) -> dict[Place, dict[Observation, CellTables]]:
    """The path tables of each cell, by the observations that it was traced for.

    Standard error gets a line for each observation that a cell lacks tables of, with the command that traces them.
    Raises `PathTablesMissing` for a cell that was not traced with a bare street at the recipe's carrier.
    """
    found: dict[Place, dict[Observation, CellTables]] = {cell: {} for cell in cells}
    require_tables(table_path(folder, *cell) for cell in found)
    for one in observations:
        band = find_design(one.design, recipe).folder(folder, recipe)
        tables = {
            cell: CellTables(*(table_path(band, *cell, street=street) for street in one.streets or (None, None)))
            for cell in found
        }
        try:
            require_tables(path for pair in tables.values() for path in dict.fromkeys(pair))
        except PathTablesMissing as missing:
            print(f"left out: {one.describe(recipe)}: {missing}", file=sys.stderr)
        for cell, pair in tables.items():
            if all(path.exists() for path in pair):
                found[cell][one] = pair
    return found


def count_located(tables: CellTables, held: int) -> int:
    """How many users can be located beside ``held`` references: none, if there are too few references."""
    survey = _reached_places(tables.survey)
    if tables.survey == tables.users:
        return max(0, len(survey) - held)
    return len(_find_others(_reached_places(tables.users), survey[:held])) if len(survey) >= held else 0


def observe(tables: CellTables, design: Design, held: int) -> Observed:
    """The users after the first ``held`` are to be located. None of them stands where a reference was measured."""
    table = PathTable.load(tables.users)
    users, bound = observe_cell(table, design.radio, table.site.yaw), _bound_of(table, design)
    if tables.survey == tables.users:
        return Observed(users, bound)
    surveyed = PathTable.load(tables.survey)
    survey = observe_cell(surveyed, design.radio, surveyed.site.yaw)
    rows = _find_others(users.positions, survey.positions[:held])
    cell = RadioCell(
        name=users.name,
        csi=np.concatenate([survey.csi[:held], users.csi[rows]]),
        positions=np.concatenate([survey.positions[:held], users.positions[rows]]),
        line_of_sight=np.concatenate([survey.line_of_sight[:held], users.line_of_sight[rows]]),
        unreached=users.unreached,
    )
    return Observed(cell, lambda condition, located: bound(condition, rows[located - held]))


def _reached_places(path: Path) -> NDArray[np.float32]:
    table = PathTable.load(path)
    places: NDArray[np.float32] = table.users[table.reached, :2]
    return places


def _find_others(places: NDArray[np.float32], taken: NDArray[np.float32]) -> NDArray[np.int64]:
    """The rows of ``places`` that are not among ``taken``. A user has the same place in all states, bit for bit."""
    known = set(map(tuple, taken.tolist()))
    return np.array([row for row, place in enumerate(places.tolist()) if tuple(place) not in known], np.int64)


def _bound_of(table: PathTable, design: Design) -> Bound:
    """The bound of the table's users (counted without those that no path reaches) under a condition."""
    reached = np.flatnonzero(table.reached)

    @lru_cache
    def compute(
        snr_db: float, timing_sigma: float | None, gnss_m: float | None, users: tuple[int, ...]
    ) -> NDArray[np.float32]:
        bound = position_error_bound(
            table,
            design.radio,
            table.site.yaw,
            snr_db,
            timing_sigma == 0,
            gnss_m,
            np.array(users),
            timing_sigma=timing_sigma,
        )
        return bound.astype(np.float32)

    def bound(condition: Condition, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        snr_db = CLEAN_SNR_DB if condition.radio.snr_db is None else condition.radio.snr_db
        return compute(snr_db, condition.sto[1], condition.gnss, tuple(reached[rows].tolist()))

    return bound
