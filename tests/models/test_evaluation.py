import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.mateformer import Mateformer
from models.training.corpus import RadioCell, load_cell
from models.training.evaluation import evaluate
from models.training.recipe import Recipe
from models.training.report import PLOT_FILE, REPORT_FILE, TABLE_FILE, write_report

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def cell(small_recipe: Recipe) -> RadioCell:
    return load_cell(DATA / "etoile-0900.paths.safetensors", small_recipe.radio)


def centroid(csi_known, positions_known, csi) -> np.ndarray:
    return positions_known.mean(axis=1, keepdims=True)


def test_only_users_after_the_references_are_located_and_all_of_them(cell: RadioCell, small_recipe: Recipe) -> None:
    result = evaluate(centroid, cell, small_recipe, seed=1)
    held_out = len(cell.positions) - small_recipe.cells.references
    assert all(len(errors) == held_out for errors in result.errors.values())
    np.testing.assert_array_equal(result.line_of_sight, cell.line_of_sight[small_recipe.cells.references :])


def test_no_held_out_user_ever_serves_as_a_reference(cell: RadioCell, small_recipe: Recipe) -> None:
    held_out = {tuple(position) for position in cell.positions[small_recipe.cells.references :].tolist()}
    shown: list[tuple[float, float]] = []

    def spy(csi_known, positions_known, csi) -> np.ndarray:
        shown.extend(map(tuple, positions_known.reshape(-1, 2).tolist()))
        return positions_known.mean(axis=1, keepdims=True)

    evaluate(spy, cell, small_recipe, seed=1)
    assert shown
    assert not held_out & set(shown)


def test_the_second_pass_looks_around_the_first_answer(cell: RadioCell, small_recipe: Recipe) -> None:
    """A locator that always answers one far corner must be shown that corner's fingerprints next."""
    corner = cell.positions[: small_recipe.cells.references].max(axis=0)
    centres: list[np.ndarray] = []

    def stubborn(csi_known, positions_known, csi) -> np.ndarray:
        centres.append(positions_known.mean(axis=1))
        return np.broadcast_to(corner, (len(csi), 1, 2)).copy()

    evaluate(stubborn, cell, small_recipe, seed=1)
    first, second = centres[0], centres[1]
    assert np.linalg.norm(second - corner, axis=1).max() < np.linalg.norm(first - corner, axis=1).mean()
    np.testing.assert_allclose(second, np.broadcast_to(second[0], second.shape), atol=1e-4)


def test_the_gnss_fix_errs_as_its_sigma_says(cell: RadioCell, small_recipe: Recipe) -> None:
    errors = np.concatenate([evaluate(centroid, cell, small_recipe, seed).errors["gnss"] for seed in range(8)])
    expected = small_recipe.cells.coarse_sigma * np.sqrt(np.pi / 2)  # mean of a Rayleigh distance
    assert errors.mean() == pytest.approx(expected, rel=0.1)


def test_the_best_knn_is_the_one_with_the_smallest_mean(cell: RadioCell, small_recipe: Recipe) -> None:
    result = evaluate(centroid, cell, small_recipe, seed=1)
    knn = {name: errors.mean() for name, errors in result.errors.items() if name.startswith("knn")}
    assert knn[result.best_knn] == min(knn.values())
    assert len(knn) > 10


def test_a_report_has_every_cell_los_and_nlos_apart_and_a_plot(small_recipe: Recipe, tmp_path: Path) -> None:
    torch.manual_seed(0)
    table = write_report(Mateformer(small_recipe.config()), small_recipe, DATA, tmp_path, torch.device("cpu"))
    assert (tmp_path / TABLE_FILE).read_text() == table
    for words in ("validation", "test", "etoile-0900", "LOS users", "NLOS users", "best kNN", "GNSS"):
        assert words in table
    summary = json.loads((tmp_path / REPORT_FILE).read_text())
    everyone = summary["test"]["all"]["mateformer"]
    assert everyone["median_m"] < everyone["p90_m"]
    assert (tmp_path / PLOT_FILE).read_bytes().startswith(b"\x89PNG")


def test_a_report_for_choosing_settings_leaves_the_test_cells_alone(small_recipe: Recipe, tmp_path: Path) -> None:
    recipe = small_recipe.model_copy(
        update={"cells": small_recipe.cells.model_copy(update={"test": ["florence:4242"]})}
    )  # not traced: reading it would fail
    write_report(Mateformer(recipe.config()), recipe, DATA, tmp_path, torch.device("cpu"), with_test=False)
    assert "test" not in json.loads((tmp_path / REPORT_FILE).read_text())
