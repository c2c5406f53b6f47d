from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.numpy import load_file

from models.artifact.manifests import Range
from models.mateformer.conditions import HEADLINE
from models.mateformer.data import build_views, draw_neighbourhoods
from models.mateformer.learner import MateformerLearner, load_model
from models.mateformer.locators import TorchLocator
from models.mateformer.measured import (
    BadMeasuredCell,
    find_locations,
    load_measured_cells,
    split_measured_cells,
)
from models.mateformer.measurement import LOCATIONS, measure
from models.mateformer.recipe import Cells, MateformerRecipe
from models.mateformer.report import TABLE_FILE, write_report
from models.radio.path_table import PathTable
from models.radio.survey import describe_cell, write_survey
from reference_db import Fingerprints, write_fingerprint_file
from reference_db.cell_description import write_description

CPU = torch.device("cpu")
REPEATED, POINTS = 4, 30


@pytest.fixture(scope="module")
def file(table: PathTable, mateformer_recipe: MateformerRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty points, each measured four times; their positions differ by a few centimetres."""
    rng = np.random.default_rng(1)
    radio = mateformer_recipe.radio
    cell = describe_cell(table.site, radio.array, radio.subcarriers, radio.bandwidth)
    cell = cell.model_copy(update={"survey_sto": 0.0, "user_sto": 5e-9})
    places = np.repeat(np.stack([np.arange(POINTS) * 2.0 + 20, np.arange(POINTS) % 3.0], axis=1), REPEATED, axis=0)
    csi = np.repeat(rng.normal(size=(POINTS, 8, 8, 2)), REPEATED, axis=0) + 0.1 * rng.normal(size=(120, 8, 8, 2))
    fingerprints = Fingerprints(
        csi=np.ascontiguousarray(csi.astype(np.float32)).view(np.complex64)[..., 0],
        positions=(places + 0.03 * rng.normal(size=places.shape)).astype(np.float32),
        times=np.zeros(len(places)),
        sigmas=np.full(len(places), 0.3, np.float32),
    )
    path = tmp_path_factory.mktemp("measured") / "corridor.safetensors"
    write_fingerprint_file(path, cell, fingerprints)
    return path


@pytest.fixture
def recipe(mateformer_recipe: MateformerRecipe, file: Path) -> MateformerRecipe:
    cells = Cells(train=[], validation=[], test=[], references=200, fingerprints=(str(file.parent),), same_location=0.5)
    return mateformer_recipe.model_copy(update={"cells": cells})


def test_snapshots_of_one_point_are_one_location(file: Path) -> None:
    (measured,) = load_measured_cells([file])
    locations = find_locations(measured.positions, 0.5).reshape(POINTS, REPEATED)
    assert (locations == locations[:, :1]).all()
    assert len(np.unique(locations)) == POINTS


def test_positions_linked_by_others_are_one_location() -> None:
    line = np.array([[0, 0], [0.9, 0], [1.8, 0], [5, 0]], np.float32)
    assert find_locations(line, 1.0).tolist() == [0, 0, 0, 1]


def test_a_location_is_trained_on_or_held_out_as_a_whole(recipe: MateformerRecipe) -> None:
    (split,) = split_measured_cells(recipe.cells, seed=3)
    trained, held = np.split(split.locations, [split.trained])
    assert not set(trained.tolist()) & set(held.tolist())
    assert len(np.unique(held)) == POINTS // 5
    (again,) = split_measured_cells(recipe.cells, seed=3)
    (other,) = split_measured_cells(recipe.cells, seed=4)
    np.testing.assert_array_equal(again.measured.positions, split.measured.positions)
    assert not np.array_equal(other.measured.positions, split.measured.positions)


def test_files_of_one_cell_are_joined(table: PathTable, mateformer_recipe: MateformerRecipe, tmp_path: Path) -> None:
    write_survey(table, mateformer_recipe.radio, 100, 30, 0.0, tmp_path)
    (one,) = load_measured_cells([tmp_path])
    assert len(one) == 130


def test_a_file_in_another_format_and_layout_is_the_same_cell(file: Path, tmp_path: Path) -> None:
    (measured,) = load_measured_cells([file])
    (tmp_path / "cell.json").write_text(write_description(measured.cell))
    np.save(tmp_path / "csi.npy", measured.csi.swapaxes(1, 2).conj())
    np.save(tmp_path / "positions.npy", measured.positions)
    np.save(tmp_path / "sigmas.npy", measured.sigmas)
    stated = {"file": f"{tmp_path}/csi.npy", "cell_file": f"{tmp_path}/cell.json"}
    layout = {"axes": "subcarriers,antennas", "conjugate": True}
    cells = Cells(train=[], validation=[], test=[], references=200, fingerprints=(stated | layout,))
    (other,) = load_measured_cells(cells.fingerprints)
    np.testing.assert_allclose(other.csi, measured.csi)
    np.testing.assert_array_equal(other.positions, measured.positions)
    with pytest.raises(ValidationError, match="no axis is called 'tones'"):
        Cells(train=[], validation=[], test=[], references=200, fingerprints=(stated | {"axes": "antennas,tones"},))


def test_a_cell_that_is_one_location_is_refused_with_advice(recipe: MateformerRecipe) -> None:
    with pytest.raises(BadMeasuredCell, match=r"same_location, now 10 m"):
        split_measured_cells(recipe.cells.model_copy(update={"same_location": 10.0}), seed=3)


def test_a_cell_outside_the_recipes_ranges_is_refused_with_the_range(recipe: MateformerRecipe) -> None:
    ranges = recipe.ranges.model_copy(update={"subcarriers": Range(minimum=1000, maximum=2000)})
    with pytest.raises(BadMeasuredCell, match=r"outside the recipe's ranges: subcarriers is \d+"):
        build_views(recipe.model_copy(update={"ranges": ranges}), Path())


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadMeasuredCell, match="nowhere"):
        load_measured_cells([tmp_path / "nowhere"])
    (tmp_path / "bad.npz").write_bytes(b"nonsense")
    with pytest.raises(BadMeasuredCell, match=r"bad\.npz"):
        load_measured_cells([tmp_path])


def test_a_file_that_describes_no_cell_is_named_once_with_the_field_of_the_recipe_that_helps(
    file: Path, tmp_path: Path
) -> None:
    arrays = {name: array for name, array in load_file(file).items() if name != "cell"}
    np.savez(tmp_path / "drive.npz", **arrays)
    with pytest.raises(BadMeasuredCell) as refused:
        load_measured_cells([tmp_path])
    assert str(refused.value).startswith(f"{tmp_path / 'drive.npz'}: the file describes no cell; ")
    assert str(refused.value).count("drive.npz") == 1
    assert "cell_file under cells.fingerprints" in str(refused.value)
    assert "--cell-file" not in str(refused.value)


def test_a_recipe_needs_something_to_train_on() -> None:
    with pytest.raises(ValidationError, match="both empty"):
        Cells(train=[], validation=[], test=[], references=200)


def test_users_to_infer_have_no_known_sample_of_their_own_location(recipe: MateformerRecipe) -> None:
    (view,) = build_views(recipe, Path())
    rng = np.random.default_rng(0)
    for _ in range(5):
        for drawn in draw_neighbourhoods([view], recipe.batch, rng):
            of = view.measured.locations
            assert not set(of[drawn.known].tolist()) & set(of[drawn.to_infer].tolist())
            assert len(drawn.to_infer) == recipe.batch.to_infer
            np.testing.assert_allclose(drawn.label_sigmas(), 0.3)


def test_no_held_out_fingerprint_is_trained_on(recipe: MateformerRecipe) -> None:
    (view,), (split,) = build_views(recipe, Path()), split_measured_cells(recipe.cells, recipe.seed)
    held = {tuple(one) for one in split.measured.positions[split.trained :].tolist()}
    assert held
    assert not held & {tuple(one) for one in view.positions.tolist()}


def test_measured_cells_are_fine_tuned_on_and_reported_by_location(recipe: MateformerRecipe, tmp_path: Path) -> None:
    recipe = recipe.model_copy(update={"optimiser": recipe.optimiser.model_copy(update={"steps": 3})})
    MateformerLearner(recipe, build_views(recipe, Path()), tmp_path, CPU).run()
    locator = TorchLocator(load_model(tmp_path, recipe), CPU)
    results = measure(locator, recipe, Path(), ("validation", "test"), HEADLINE)
    assert set(results) == {LOCATIONS}
    summary = write_report(results, HEADLINE, recipe, tmp_path)
    everyone = summary["splits"][LOCATIONS]["all"]
    assert set(everyone) == {"gnss_1m", "gnss_10m", "no_gnss"}  # what street radio would do was not measured
    assert everyone["gnss_1m"]["mateformer"]["los"] == {}
    assert everyone["no_gnss"]["best knn"]["mean_m"] > 1.0  # of the point itself there is no reference
    table = (tmp_path / TABLE_FILE).read_text()
    assert "| etoile-0900 | 24 | " in table
    assert "acceptance" not in table  # its criteria are about traced cells
    for foreign in ("-nlos", "LOS", "bound,", "| bound"):  # nothing of it is known of measured users
        assert foreign not in table
