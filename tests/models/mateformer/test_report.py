import json
from pathlib import Path

import numpy as np
import pytest

from models.mateformer.conditions import ALL, HEADLINE
from models.mateformer.recipe import MateformerRecipe
from models.mateformer.report import JSON_FILE, PLOT_FILE, TABLE_FILE, measure, write_report

DATA = Path(__file__).parents[1] / "data"


def centroid(csi_known, positions_known, csi, coarse, accuracy) -> np.ndarray:
    return positions_known.mean(axis=1, keepdims=True)


def test_a_report_has_criteria_cells_and_every_axis(mateformer_recipe: MateformerRecipe, tmp_path: Path) -> None:
    results = measure(centroid, mateformer_recipe, DATA, ("validation", "test"), ALL, users=5)
    write_report(results, ALL, mateformer_recipe, tmp_path)
    table = (tmp_path / TABLE_FILE).read_text()
    assert table.startswith("| mean error as a ratio | at most | validation | test |")
    for words in ("etoile-0900", "LOS users", "NLOS users", "best kNN", "iterative", "SNR 10 dB", "8 bit"):
        assert words in table
    summary = json.loads((tmp_path / JSON_FILE).read_text())
    assert set(summary["splits"]) == {"validation", "test"}
    one = summary["splits"]["test"]["all"]["gnss_1m"]["mateformer"]
    assert one["median_m"] <= one["p90_m"]
    assert (tmp_path / PLOT_FILE).read_bytes().startswith(b"\x89PNG")


def test_axes_that_were_not_measured_are_left_out(mateformer_recipe: MateformerRecipe, tmp_path: Path) -> None:
    results = measure(centroid, mateformer_recipe, DATA, ("validation",), HEADLINE, users=5)
    write_report(results, HEADLINE, mateformer_recipe, tmp_path)
    table = (tmp_path / TABLE_FILE).read_text()
    assert "headline: validation" in table
    assert "GNSS error, 1 sigma" not in table
    assert "Neighbourhood" not in table


def test_a_validation_report_does_not_read_the_test_cells(mateformer_recipe: MateformerRecipe) -> None:
    recipe = mateformer_recipe.model_copy(
        update={"cells": mateformer_recipe.cells.model_copy(update={"test": ["florence:4242"]})}
    )  # not traced: reading it fails
    assert set(measure(centroid, recipe, DATA, ("validation",), HEADLINE, users=2)) == {"validation"}
    with pytest.raises(FileNotFoundError):
        measure(centroid, recipe, DATA, ("test",), HEADLINE, users=2)
