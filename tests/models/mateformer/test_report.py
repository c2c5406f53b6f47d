import json
from pathlib import Path

import numpy as np
import pytest

from models.mateformer.conditions import ALL, HEADLINE
from models.mateformer.report import JSON_FILE, PLOT_FILE, TABLE_FILE, evaluate, write_report
from models.pipeline.recipe import Recipe

DATA = Path(__file__).parents[1] / "data"


def centroid(csi_known, positions_known, csi, coarse, accuracy) -> np.ndarray:
    return positions_known.mean(axis=1, keepdims=True)


def test_a_report_has_bars_cells_and_every_axis(small_recipe: Recipe, tmp_path: Path) -> None:
    results = evaluate(centroid, small_recipe, DATA, ("validation", "test"), ALL, users=5)
    write_report(results, ALL, small_recipe, tmp_path)
    table = (tmp_path / TABLE_FILE).read_text()
    assert table.startswith("| mean error as a ratio | at most | validation | test |")
    for words in ("etoile-0900", "LOS users", "NLOS users", "best kNN", "iterative", "SNR 10 dB", "8 bit"):
        assert words in table
    summary = json.loads((tmp_path / JSON_FILE).read_text())
    assert set(summary["splits"]) == {"validation", "test"}
    one = summary["splits"]["test"]["all"]["gnss_1m"]["mateformer"]
    assert one["median_m"] <= one["p90_m"]
    assert (tmp_path / PLOT_FILE).read_bytes().startswith(b"\x89PNG")


def test_axes_that_were_not_measured_are_left_out(small_recipe: Recipe, tmp_path: Path) -> None:
    results = evaluate(centroid, small_recipe, DATA, ("validation",), HEADLINE, users=5)
    write_report(results, HEADLINE, small_recipe, tmp_path)
    table = (tmp_path / TABLE_FILE).read_text()
    assert "headline: validation" in table
    assert "GNSS error, 1 sigma" not in table
    assert "Neighbourhood" not in table


def test_a_report_for_choosing_settings_leaves_the_test_cells_alone(small_recipe: Recipe) -> None:
    recipe = small_recipe.model_copy(
        update={"cells": small_recipe.cells.model_copy(update={"test": ["florence:4242"]})}
    )  # not traced: reading it fails
    assert set(evaluate(centroid, recipe, DATA, ("validation",), HEADLINE, users=2)) == {"validation"}
    with pytest.raises(FileNotFoundError):
        evaluate(centroid, recipe, DATA, ("test",), HEADLINE, users=2)
