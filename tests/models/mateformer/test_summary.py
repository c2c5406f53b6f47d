import numpy as np
import pytest

from models.mateformer.conditions import GNSS_1M, GNSS_10M, HEADLINE, NO_GNSS, STREET_1M, select_possible
from models.mateformer.evaluation import CellErrors
from models.mateformer.recipe import MateformerRecipe
from models.mateformer.report import write_tables
from models.mateformer.summary import flatten_metrics, pool_errors, summarise

MEANS = {GNSS_1M: 0.2, GNSS_10M: 0.22, NO_GNSS: 0.3, STREET_1M: 0.25}


def constant(metres: float) -> np.ndarray:
    return np.full(4, metres, np.float32)


@pytest.fixture
def results(mateformer_recipe: MateformerRecipe) -> dict[str, list[CellErrors]]:
    """Two cells of four users, two of them in line of sight; another kNN is best in each cell."""
    cells = []
    for name, good, bad in (
        ("a", "knn csi k=1, cell", "knn csi k=3, cell"),
        ("b", "knn csi k=3, cell", "knn csi k=1, cell"),
    ):
        errors = {
            condition.complete_from(mateformer_recipe): {
                "mateformer": constant(mean) + np.array([0.1, 0.1, -0.1, -0.1], np.float32),
                "gnss": constant(1.25),
                good: constant(0.5),
                bad: constant(0.7),
            }
            for condition, mean in MEANS.items()
        }
        del errors[NO_GNSS.complete_from(mateformer_recipe)]["gnss"]
        cells.append(CellErrors(name, 0, np.array([False, False, True, True]), errors))
    return {"validation": cells}


def test_the_best_knn_is_chosen_per_cell(
    results: dict[str, list[CellErrors]], mateformer_recipe: MateformerRecipe
) -> None:
    errors = pool_errors(results["validation"], GNSS_1M.complete_from(mateformer_recipe), "best knn")
    np.testing.assert_array_equal(errors, np.full(8, 0.5, np.float32))


def test_acceptance_criteria_are_ratios_of_mean_errors(
    results: dict[str, list[CellErrors]], mateformer_recipe: MateformerRecipe
) -> None:
    criteria = summarise(results, select_possible(HEADLINE, mateformer_recipe), mateformer_recipe)["splits"][
        "validation"
    ]["acceptance"]
    assert [one["ratio"] for one in criteria.values()] == pytest.approx([0.4, 1.1, 1.5, 1.25])
    assert [one["limit"] for one in criteria.values()] == [0.5, 1.15, 1.15, 1.5]


def test_a_missed_criterion_says_so(results: dict[str, list[CellErrors]], mateformer_recipe: MateformerRecipe) -> None:
    conditions = select_possible(HEADLINE, mateformer_recipe)
    table = write_tables(mateformer_recipe, conditions, summarise(results, conditions, mateformer_recipe))
    rows = [line for line in table.splitlines() if "against" in line]
    assert ["missed" in row for row in rows] == [False, False, True, False]
    assert "| no GNSS, against GNSS 1 m | 1.15 | 1.50 (missed) |" in rows


def test_users_in_and_out_of_line_of_sight_are_summarised_apart(
    results: dict[str, list[CellErrors]], mateformer_recipe: MateformerRecipe
) -> None:
    summary = summarise(results, select_possible(HEADLINE, mateformer_recipe), mateformer_recipe)
    one = summary["splits"]["validation"]["all"]["gnss_1m"]["mateformer"]
    assert one["los"]["mean_m"] == pytest.approx(0.1)
    assert one["nlos"]["mean_m"] == pytest.approx(0.3)


def test_metrics_are_flat_and_skip_missing_results(
    results: dict[str, list[CellErrors]], mateformer_recipe: MateformerRecipe
) -> None:
    flat = flatten_metrics(summarise(results, select_possible(HEADLINE, mateformer_recipe), mateformer_recipe))
    assert flat["validation/mateformer/gnss_10m/mean_m"] == pytest.approx(0.22)
    assert flat["validation/best knn/gnss_1m/median_m"] == pytest.approx(0.5)
    assert "validation/gnss/gnss_1m/p90_m" in flat
    assert not any(name.startswith("validation/gnss/no_gnss") for name in flat)


def test_a_split_without_nlos_users_has_a_dash(
    results: dict[str, list[CellErrors]], mateformer_recipe: MateformerRecipe
) -> None:
    seen = [CellErrors(cell.cell, 0, np.ones(4, bool), cell.errors) for cell in results["validation"]]
    conditions = select_possible(HEADLINE, mateformer_recipe)
    table = write_tables(mateformer_recipe, conditions, summarise({"test": seen}, conditions, mateformer_recipe))
    (row,) = (line for line in table.splitlines() if line.startswith("| NLOS users"))
    assert set(row.replace("NLOS users", "").split("|")[4:-1]) == {" - "}
