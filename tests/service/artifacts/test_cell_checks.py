"""What an artifact is compared on before it takes over."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from reference_db import CellVersion, DirectoryStore, import_fingerprints, read_contents
from reference_db.manifest import Manifest
from service.artifacts.cell_checks import MOST_CELLS, check_cells, compare_errors, sample_trajectories
from service.errors import InferenceFailed, NotReady
from tests.service.plane_cell import fingerprints_at, make_cell, street
from tests.service.tiny_cell import ORIGIN

Errors = np.ndarray
GOOD = np.full(20, 0.2)


def test_errors_are_far_worse_from_half_as_much_again() -> None:
    assert compare_errors(GOOD, GOOD * 1.5 + 0.1) is None
    assert compare_errors(GOOD, GOOD * 1.5 + 0.11) == (
        "the median error on the cell's own fingerprints rises from 0.20 m to 0.41 m"
    )


def test_an_artifact_without_answers_is_far_worse() -> None:
    silent = np.full(20, np.nan)
    assert compare_errors(GOOD, silent) == "the model has no answer for most of the cell's own fingerprints"
    assert compare_errors(silent, GOOD) is None


def test_trajectories_are_fingerprints_within_a_radius_of_one() -> None:
    positions = np.array([[0, 0], [1, 0], [2, 0], [50, 0], [51, 0]], np.float32)
    rows = sample_trajectories(positions, 3, 1.5, seed=0)
    assert rows.tolist() == [[1, 0, 2]]
    assert sample_trajectories(positions[:2], 3, 1.5, seed=0).shape == (0, 3)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> DirectoryStore:
    store = DirectoryStore(tmp_path_factory.mktemp("database"))
    for number in range(MOST_CELLS + 4):
        import_fingerprints(store, make_cell(f"cell-{number}"), fingerprints_at(street(20, number)), {}, ORIGIN)
    return store


@pytest.fixture(scope="module")
def serveable(store: DirectoryStore) -> dict[str, Manifest]:
    found = {cell_id: store.current(cell_id) for cell_id in store.cells()}
    return {cell_id: manifest for cell_id, manifest in found.items() if manifest is not None}


class Measuring:
    """Errors that are good, but for the cells in `worse`; remembers the cells."""

    def __init__(self, *worse: str) -> None:
        self.cells: list[str] = []
        self._worse = worse

    def __call__(self, version: CellVersion) -> tuple[Errors, Errors]:
        self.cells.append(version.cell.cell_id)
        return GOOD, GOOD * (9 if version.cell.cell_id in self._worse else 1)


def never() -> bool:
    return False


def test_a_sample_of_the_cells_is_checked_and_counted(store: DirectoryStore, serveable: dict[str, Manifest]) -> None:
    measuring = Measuring()
    checks = check_cells(store, serveable, {}, measuring, 0, never)
    assert (checks.cells, checks.checked, checks.failed, checks.complaint) == (MOST_CELLS + 4, MOST_CELLS, (), None)
    assert len(set(measuring.cells)) == MOST_CELLS
    again = Measuring()
    check_cells(store, serveable, {}, again, 0, never)
    assert again.cells == measuring.cells
    other = Measuring()
    check_cells(store, serveable, {}, other, 1, never)
    assert set(other.cells) != set(measuring.cells)


def test_cells_in_memory_are_checked_beside_the_sample(store: DirectoryStore, serveable: dict[str, Manifest]) -> None:
    skipped = Measuring()
    check_cells(store, serveable, {}, skipped, 0, never)
    held_id = min(serveable.keys() - set(skipped.cells))
    held = CellVersion.assemble(read_contents(store, serveable[held_id]))
    checks = check_cells(store, serveable, {held_id: held}, Measuring(held_id), 0, never)
    assert checks.checked == MOST_CELLS + 1
    assert [one.cell_id for one in checks.failed] == [held_id]


def test_every_failed_cell_is_named(store: DirectoryStore, serveable: dict[str, Manifest]) -> None:
    few = {cell_id: serveable[cell_id] for cell_id in ("cell-1", "cell-2", "cell-3")}
    checks = check_cells(store, few, {}, Measuring("cell-1", "cell-3"), 0, never)
    assert {one.cell_id for one in checks.failed} == {"cell-1", "cell-3"}
    medians = {cell_id: (round(before or 0, 3), round(after or 0, 3)) for cell_id, before, after in checks.compared}
    assert medians == {"cell-1": (0.2, 1.8), "cell-2": (0.2, 0.2), "cell-3": (0.2, 1.8)}
    assert checks.complaint is not None
    assert "2 of 3 cells checked failed" in checks.complaint
    assert "cell-1" in checks.complaint
    assert "cell-3" in checks.complaint


def test_a_model_that_fails_in_a_cell_fails_its_check(store: DirectoryStore, serveable: dict[str, Manifest]) -> None:
    def fail(version: CellVersion) -> tuple[Errors, Errors]:
        raise InferenceFailed("the model failed to run")

    checks = check_cells(store, {"cell-1": serveable["cell-1"]}, {}, fail, 0, never)
    assert (checks.checked, checks.failed) == (1, (("cell-1", "the model failed to run"),))
    assert checks.compared == (("cell-1", None, None),)


def test_a_median_without_answers_is_none(store: DirectoryStore, serveable: dict[str, Manifest]) -> None:
    one = {"cell-1": serveable["cell-1"]}
    checks = check_cells(store, one, {}, lambda _: (GOOD, np.full(20, np.nan)), 0, never)
    assert checks.compared == (("cell-1", pytest.approx(0.2), None),)


def test_nothing_checked_is_a_complaint(store: DirectoryStore, serveable: dict[str, Manifest]) -> None:
    def too_few(version: CellVersion) -> tuple[Errors, Errors]:
        return GOOD[:7], GOOD[:7]

    for cells in ({}, {"cell-1": serveable["cell-1"]}):
        checks = check_cells(store, cells, {}, too_few, 0, never)
        assert checks.checked == 0
        assert checks.complaint is not None


def test_a_damaged_cell_is_left_out(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    for name in ("damaged", "whole"):
        import_fingerprints(store, make_cell(name), fingerprints_at(street(20, 1)), {}, ORIGIN)
    for segment in (tmp_path / "cells" / "damaged").rglob("*.safetensors"):
        segment.chmod(0o600)
        segment.write_bytes(b"damaged")
    cells = {cell_id: manifest for cell_id in store.cells() if (manifest := store.current(cell_id)) is not None}
    measuring = Measuring()
    checks = check_cells(store, cells, {}, measuring, 0, never)
    assert (checks.cells, checks.checked, measuring.cells) == (2, 1, ["whole"])


def test_a_stop_ends_the_check(store: DirectoryStore, serveable: dict[str, Manifest]) -> None:
    answers: Iterator[bool] = iter([False, True])
    measuring = Measuring()
    with pytest.raises(NotReady):
        check_cells(store, serveable, {}, measuring, 0, lambda: next(answers))
    assert len(measuring.cells) == 1
