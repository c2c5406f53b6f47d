import numpy as np
import pytest

from models.mateformer.conditions import GNSS_1M, GNSS_10M, HEADLINE, NO_GNSS, STREET_1M, possible
from models.mateformer.evaluation import CellErrors
from models.mateformer.summary import metrics, pooled, summarise
from models.pipeline.recipe import Recipe
from models.pipeline.tables import markdown

MEANS = {GNSS_1M: 0.2, GNSS_10M: 0.22, NO_GNSS: 0.3, STREET_1M: 0.25}


def constant(metres: float) -> np.ndarray:
    return np.full(4, metres, np.float32)


@pytest.fixture
def results(small_recipe: Recipe) -> dict[str, list[CellErrors]]:
    """Two cells of four users, two of them in line of sight; another kNN is best in each cell."""
    cells = []
    for name, good, bad in (
        ("a", "knn csi k=1, cell", "knn csi k=3, cell"),
        ("b", "knn csi k=3, cell", "knn csi k=1, cell"),
    ):
        errors = {
            condition.by(small_recipe): {
                "mateformer": constant(mean) + np.array([0.1, 0.1, -0.1, -0.1], np.float32),
                "gnss": constant(1.25),
                good: constant(0.5),
                bad: constant(0.7),
            }
            for condition, mean in MEANS.items()
        }
        del errors[NO_GNSS.by(small_recipe)]["gnss"]
        cells.append(CellErrors(name, 0, np.array([False, False, True, True]), errors))
    return {"validation": cells}


def test_the_best_knn_is_chosen_a_cell(results: dict[str, list[CellErrors]], small_recipe: Recipe) -> None:
    errors = pooled(results["validation"], GNSS_1M.by(small_recipe), "best knn")
    np.testing.assert_array_equal(errors, np.full(8, 0.5, np.float32))


def test_bars_are_ratios_of_mean_errors(results: dict[str, list[CellErrors]], small_recipe: Recipe) -> None:
    bars = summarise(results, possible(HEADLINE, small_recipe), small_recipe)["splits"]["validation"]["bars"]
    assert [bar["ratio"] for bar in bars.values()] == pytest.approx([0.4, 1.1, 1.5, 1.25])
    assert [bar["most"] for bar in bars.values()] == [0.5, 1.15, 1.15, 1.5]


def test_a_missed_bar_says_so(results: dict[str, list[CellErrors]], small_recipe: Recipe) -> None:
    conditions = possible(HEADLINE, small_recipe)
    table = markdown(small_recipe, conditions, summarise(results, conditions, small_recipe))
    rows = [line for line in table.splitlines() if "against" in line]
    assert ["missed" in row for row in rows] == [False, False, True, False]
    assert "| no GNSS, against GNSS 1 m | 1.15 | 1.50 (missed) |" in rows


def test_line_of_sight_is_told_apart(results: dict[str, list[CellErrors]], small_recipe: Recipe) -> None:
    everyone = summarise(results, possible(HEADLINE, small_recipe), small_recipe)["splits"]["validation"]["all"]
    one = everyone["gnss_1m"]["mateformer"]
    assert one["los"]["mean_m"] == pytest.approx(0.1)
    assert one["nlos"]["mean_m"] == pytest.approx(0.3)


def test_metrics_are_flat_and_skip_what_does_not_exist(
    results: dict[str, list[CellErrors]], small_recipe: Recipe
) -> None:
    flat = metrics(summarise(results, possible(HEADLINE, small_recipe), small_recipe))
    assert flat["validation/mateformer/gnss_10m/mean_m"] == pytest.approx(0.22)
    assert flat["validation/best knn/gnss_1m/median_m"] == pytest.approx(0.5)
    assert "validation/gnss/gnss_1m/p90_m" in flat
    assert not any(name.startswith("validation/gnss/no_gnss") for name in flat)


def test_a_split_without_users_out_of_sight_has_a_dash(
    results: dict[str, list[CellErrors]], small_recipe: Recipe
) -> None:
    seen = [CellErrors(cell.cell, 0, np.ones(4, bool), cell.errors) for cell in results["validation"]]
    conditions = possible(HEADLINE, small_recipe)
    table = markdown(small_recipe, conditions, summarise({"test": seen}, conditions, small_recipe))
    (row,) = (line for line in table.splitlines() if line.startswith("| NLOS users"))
    assert set(row.replace("NLOS users", "").split("|")[4:-1]) == {" - "}
