import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.artifact.channel_transform import ChannelTransform
from models.mateformer.conditions import HEADLINE, Condition, find_conditions
from models.mateformer.locators import Positions
from models.mateformer.measurement import group_cells, measure
from models.mateformer.recipe import MateformerRecipe
from models.mateformer.report import JSON_FILE, PLOT_FILE, TABLE_FILE, write_report
from models.radio.path_table import PathTable
from models.radio.tracing import band_folder, table_path

DATA = Path(__file__).parents[1] / "data"
SOME = [*HEADLINE, *find_conditions(["iterative", "street_users_alike", "pavements", "labels_1m", "region"])]


class Centroid:
    def __init__(self) -> None:
        self.channels: list[ChannelTransform] = []

    def describe(self, channel: ChannelTransform, csi: np.ndarray) -> np.ndarray:
        self.channels.append(channel)
        return np.zeros((len(csi), 1), np.float32)

    def locate(self, features_known, positions_known, sigmas_known, features, coarse, accuracy) -> Positions:
        positions = positions_known.mean(axis=1, keepdims=True)
        return Positions(positions, np.broadcast_to(np.eye(2, dtype=np.float32), (*positions.shape, 2)))


def test_a_report_has_criteria_cells_and_every_axis(mateformer_recipe: MateformerRecipe, tmp_path: Path) -> None:
    results = measure(Centroid(), mateformer_recipe, DATA, ("validation", "test"), SOME, users=5)
    write_report(results, SOME, mateformer_recipe, tmp_path)
    table = (tmp_path / TABLE_FILE).read_text()
    assert table.startswith("| acceptance | at most | validation | test |")
    for words in (
        "etoile-0900",
        "LOS users",
        "NLOS users",
        "best kNN",
        "iterative",
        "degraded alike",
        "pavements",
        "region of 15 m x 15 m",
    ):
        assert words in table
    summary = json.loads((tmp_path / JSON_FILE).read_text())
    assert set(summary["splits"]) == {"validation", "test"}
    one = summary["splits"]["test"]["all"]["gnss_1m"]["mateformer"]
    assert one["median_m"] <= one["p90_m"]
    assert one["ellipse_m2"] == pytest.approx(np.pi * 5.991, rel=1e-3)
    assert 0 < summary["splits"]["test"]["all"]["gnss_1m"]["bound"]["mean_m"] < 1
    assert (tmp_path / PLOT_FILE).read_bytes().startswith(b"\x89PNG")


def test_axes_that_were_not_measured_are_left_out(mateformer_recipe: MateformerRecipe, tmp_path: Path) -> None:
    results = measure(Centroid(), mateformer_recipe, DATA, ("validation",), HEADLINE, users=5)
    write_report(results, HEADLINE, mateformer_recipe, tmp_path)
    table = (tmp_path / TABLE_FILE).read_text()
    assert "headline: validation" in table
    assert "GNSS error, 1 sigma" not in table
    assert "Neighbourhood" not in table


def test_a_validation_report_does_not_read_the_test_cells(mateformer_recipe: MateformerRecipe) -> None:
    recipe = mateformer_recipe.model_copy(
        update={"cells": mateformer_recipe.cells.model_copy(update={"test": ["florence:4242"]})}
    )  # not traced: reading it fails
    assert set(measure(Centroid(), recipe, DATA, ("validation",), HEADLINE, users=2)) == {"validation"}
    with pytest.raises(FileNotFoundError):
        measure(Centroid(), recipe, DATA, ("test",), HEADLINE, users=2)


def test_sites_out_of_sight_are_a_group_of_their_own(mateformer_recipe: MateformerRecipe) -> None:
    cells = mateformer_recipe.cells.model_copy(update={"test": ["florence:0-1", "florence-nlos:0", "etoile:3"]})
    groups = group_cells(mateformer_recipe.model_copy(update={"cells": cells}), ("validation", "test"))
    assert groups == {
        "validation": ["etoile:900"],
        "test": ["florence:0-1", "etoile:3"],
        "test-nlos": ["florence-nlos:0"],
    }


def test_a_design_sees_the_cell_by_its_own_array_and_carrier(
    mateformer_recipe: MateformerRecipe, table: PathTable, tmp_path: Path
) -> None:
    conditions = [Condition("4x4", "4 x 4", design="4x4"), Condition("8x1", "1 x 8", design="8x1")]
    for carrier in (3.5e9, 2.6e9):
        folder = tmp_path if carrier == 3.5e9 else band_folder(tmp_path, carrier)
        folder.mkdir(exist_ok=True)
        some = replace(table, site=replace(table.site, carrier_frequency=carrier))
        some.save(table_path(folder, "etoile", 900))
    locator = Centroid()
    (cell,) = measure(locator, mateformer_recipe, tmp_path, ("test",), conditions, users=3)["test"]
    assert [len(one.errors["mateformer"]) for one in cell.located.values()] == [3, 3]
    arrays = {(one.array.rows, one.array.columns) for one in locator.channels}
    assert arrays == {(4, 4), (1, 8)}


def test_cells_not_traced_at_a_designs_carrier_are_named_and_left_out(
    mateformer_recipe: MateformerRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conditions = [*HEADLINE, Condition("64x1", "64 x 1", design="64x1")]
    results = measure(Centroid(), mateformer_recipe, DATA, ("test",), conditions, users=3)
    assert "28GHz/etoile-0900" in capsys.readouterr().err
    summary = write_report(results, conditions, mateformer_recipe, tmp_path)
    assert "64x1" not in summary["splits"]["test"]["all"]
    assert summary["splits"]["test"]["all"]["street"]["mateformer"]["cells"] == 1


def test_the_bound_knows_the_noise_the_clocks_and_the_fix(mateformer_recipe: MateformerRecipe) -> None:
    conditions = find_conditions(["gnss_1m", "snr_10db", "timing_20ns", "street_unstated", "no_gnss", "gnss_10m"])
    (cell,) = measure(Centroid(), mateformer_recipe, DATA, ("test",), conditions, users=10)["test"]
    clean, noisy, late, street, alone, vague = (
        cell.located[one.complete_from(mateformer_recipe)].errors["bound"] for one in conditions
    )
    assert (clean < noisy).all()
    assert (clean < late).all()
    assert (late <= street).all()
    assert (clean < vague).all()
    assert (vague < alone).all()
    assert (street < np.sqrt(2)).all()  # never worse than the fix alone
