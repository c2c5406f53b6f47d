"""Measures a Mateformer on held-out cells: traced ones in every observation, and locations of measured ones."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from models.mateformer.conditions import PERFECT, Condition, select_possible
from models.mateformer.designs import BASE, Design, find_design
from models.mateformer.evaluation import CellErrors, Located, locate_cell
from models.mateformer.locators import Locator
from models.mateformer.measured import SplitCell, split_measured_cells
from models.mateformer.observations import count_located, find_tables, group_conditions, observe
from models.mateformer.recipe import MateformerRecipe
from models.radio.cells import RadioCell
from models.radio.front_end import Radio
from models.radio.siting import NLOS_SUFFIX, site_name
from models.radio.tracing import parse_cells

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

    Cells that were not traced at the carrier of a design, or with the vehicles of a condition in their streets, are
    left out of its conditions, and named on standard error with the command that traces them. Raises
    `PathTablesMissing` for a cell without a path table, before any user is located, and `BadMeasuredCell`.
    """
    observations = group_conditions(conditions := select_possible(conditions, recipe))
    groups = {group: parse_cells(ranges) for group, ranges in group_cells(recipe, splits).items()}
    tables = find_tables(recipe, paths, observations, [cell for cells in groups.values() for cell in cells])
    held = recipe.cells.references
    counts = {pair: count_located(pair, held) for pair in {pair for some in tables.values() for pair in some.values()}}
    total = 0
    for one, pair in ((one, pair) for cells in groups.values() for cell in cells for one, pair in tables[cell].items()):
        total += min(counts[pair], users or counts[pair]) * sum(each.passes or 0 for each in observations[one])
    results: dict[str, list[CellErrors]] = {group: [] for group in groups}
    with tqdm(total=total, unit="user", unit_scale=True, mininterval=2) as bar:
        for group, cells in groups.items():
            for cell in cells:
                errors = CellErrors(site_name(*cell, station=0), 0, {})
                for one, pair in tables[cell].items():
                    if not counts[pair]:
                        print(f"left out: {pair.users}: too few users beside {held} references", file=sys.stderr)
                        continue
                    design = find_design(one.design, recipe)
                    seen, bound = observe(pair, design, held)
                    found = locate_cell(locator, seen, design, observations[one], held, users, bound, bar.update)
                    errors = CellErrors(errors.cell, max(errors.unreached, seen.unreached), errors.located | found)
                results[group] += [errors] * bool(errors.located)
    if measured := split_measured_cells(recipe.cells, recipe.seed):
        dense = [condition for condition in conditions if condition.references == held]
        results[LOCATIONS] = [locate_measured(locator, one, dense, users) for one in measured]
    return results


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
        and one.region is None
        and one.streets is None
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
