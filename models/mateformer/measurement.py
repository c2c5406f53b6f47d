"""Measures a Mateformer on held-out cells: traced ones in every radio design, and locations of measured ones."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from models.mateformer.conditions import PERFECT, Condition, select_possible
from models.mateformer.designs import BASE, Design, find_design
from models.mateformer.evaluation import Bound, CellErrors, Located, locate_cell
from models.mateformer.locators import Locator
from models.mateformer.measured import SplitCell, split_measured_cells
from models.mateformer.recipe import MateformerRecipe
from models.radio.bound import position_error_bound
from models.radio.cells import RadioCell, observe_cell
from models.radio.front_end import Radio
from models.radio.path_table import PathTable
from models.radio.siting import NLOS_SUFFIX, site_name
from models.radio.tracing import parse_cells, table_path

CLEAN_SNR_DB = 30.0  # assumed by the bound where the CSI is clean: there is no bound without noise
LOCATIONS = "locations"  # the group of the measured cells


def measure(
    locator: Locator,
    recipe: MateformerRecipe,
    paths: Path,
    splits: Iterable[str],
    conditions: Iterable[Condition],
    users: int | None = None,
) -> dict[str, list[CellErrors]]:
    """Locates the held-out users of the splits' cells, or the first ``users`` of each, under each possible condition.

    The sites of the family ``-nlos`` are a group of their own: ``test`` and ``test-nlos``. One cell as one design sees
    it is in memory at a time. The held-out locations of the recipe's measured cells are the group ``locations``.

    Cells that were not traced at the carrier of a design are left out of its conditions, and named on standard error.
    Raises `FileNotFoundError` for a cell without a path table, before any user is located, and `BadMeasuredCell`.
    """
    conditions = select_possible(conditions, recipe)
    by_design = {name: [one for one in conditions if one.design == name] for name in {one.design for one in conditions}}
    designs = {name: find_design(name, recipe) for name in sorted(by_design, key=lambda name: name != BASE)}
    groups = {group: parse_cells(ranges) for group, ranges in group_cells(recipe, splits).items()}
    tables = {cell: _find_tables(recipe, paths, designs, cell) for cells in groups.values() for cell in cells}
    held = recipe.cells.references
    reached = {path: int(PathTable.load(path).reached.sum()) for some in tables.values() for path in some.values()}
    total = 0
    for name, path in ((name, path) for some in tables.values() for name, path in some.items()):
        located = max(0, reached[path] - held)
        total += min(located, users or located) * sum(one.passes or 0 for one in by_design[name])
    results: dict[str, list[CellErrors]] = {group: [] for group in groups}
    with tqdm(total=total, unit="user", unit_scale=True, mininterval=2) as bar:
        for group, cells in groups.items():
            for cell in cells:
                one = CellErrors(site_name(*cell, station=0), 0, {})
                for name, path in tables[cell].items():
                    table, design = PathTable.load(path), designs[name]
                    seen, bound = observe_cell(table, design.radio, table.site.yaw), _bound_of(table, design)
                    found = locate_cell(locator, seen, design, by_design[name], held, users, bound, bar.update)
                    one = CellErrors(one.cell, max(one.unreached, seen.unreached), one.located | found)
                results[group] += [one] * bool(one.located)
    if measured := split_measured_cells(recipe.cells, recipe.seed):
        dense = [condition for condition in conditions if condition.references == held]
        results[LOCATIONS] = [locate_measured(locator, one, dense, users) for one in measured]
    return results


def _find_tables(
    recipe: MateformerRecipe, paths: Path, designs: dict[str, Design], cell: tuple[str, int]
) -> dict[str, Path]:
    """The cell's path table of each design. Raises `FileNotFoundError` without one at the recipe's carrier."""
    PathTable.load(table_path(paths, *cell))
    found = {name: table_path(design.folder(paths, recipe), *cell) for name, design in designs.items()}
    for name in [name for name, path in found.items() if not path.exists()]:
        print(f"left out: {designs[name].label}: there is no path table {found.pop(name)}", file=sys.stderr)
    return found


def locate_measured(
    locator: Locator, split: SplitCell, conditions: Iterable[Condition], users: int | None = None
) -> CellErrors:
    """Locates the held-out locations of a measured cell, with its other fingerprints as references.

    Of the conditions, those stay that take radio and survey as they are. Fixes are drawn around the true positions.
    """
    measured, held = split.measured, split.trained
    cell = measured.cell
    radio = Radio(array=cell.array, subcarriers=cell.subcarriers, bandwidth=cell.bandwidth)
    design = Design(cell.cell_id, radio, cell.carrier_frequency)
    seen = RadioCell(cell.cell_id, measured.csi, measured.positions, np.zeros(len(measured), np.bool_), 0)
    given = {
        replace(one, references=held): one
        for one in conditions
        if (one.design, one.radio, one.layout, one.label_sigma) == (BASE, PERFECT, "area", 0.0)
    }
    found = locate_cell(locator, seen, design, given, held, users, sto=(cell.survey_sto, cell.user_sto))
    unseen = {given[one]: Located(None, located.errors, located.ellipses) for one, located in found.items()}
    return CellErrors(cell.cell_id, 0, unseen)


def group_cells(recipe: MateformerRecipe, splits: Iterable[str]) -> dict[str, list[str]]:
    """The cell ranges by split and family of sites: ``test`` and ``test-nlos``."""
    groups: dict[str, list[str]] = {}
    for split in splits:
        for cells in getattr(recipe.cells, split):
            family = NLOS_SUFFIX if cells.partition(":")[0].endswith(NLOS_SUFFIX) else ""
            groups.setdefault(split + family, []).append(cells)
    return groups


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
