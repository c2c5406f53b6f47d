import numpy as np
import pytest

from models.mateformer.conditions import GNSS_1M, GNSS_10M, HEADLINE, NO_GNSS, STREET_1M, select_possible
from models.mateformer.evaluation import CellErrors, Ellipses, Located
from models.mateformer.pooling import pool_errors
from models.mateformer.recipe import MateformerRecipe
from models.mateformer.report import write_tables
from models.mateformer.summary import flatten_metrics, summarise

IN_SIGHT = np.array([False, False, True, True])
MEANS = {GNSS_1M: 0.2, GNSS_10M: 0.22, NO_GNSS: 0.3, STREET_1M: 0.25}


def constant(metres: float) -> np.ndarray:
    return np.full(4, metres, np.float32)


@pytest.fixture
def results(mateformer_recipe: MateformerRecipe) -> dict[str, list[CellErrors]]:
    """Two cells of four users, two of them in line of sight; another kNN is best in each cell."""
    return {"validation": [write_cell(name, IN_SIGHT, mateformer_recipe) for name in ("a", "b")]}


def write_cell(name: str, in_sight: np.ndarray, recipe: MateformerRecipe) -> CellErrors:
    good, bad = ("knn csi k=1, cell", "knn csi k=3, cell")[:: 1 if name == "a" else -1]
    ellipses = Ellipses(np.array([1, 2, 3, 9], np.float32), constant(0.5))
    located = {}
    for condition, mean in MEANS.items():
        errors = {
            "mateformer": constant(mean) + np.array([0.1, 0.1, -0.1, -0.1], np.float32),
            "gnss": constant(1.25),
            good: constant(0.5),
            bad: constant(0.7),
            "bound": constant(0.05),
        }
        if condition is NO_GNSS:
            del errors["gnss"]
        located[condition.complete_from(recipe)] = Located(in_sight, errors, ellipses)
    return CellErrors(name, 0, located)


def test_the_best_knn_is_chosen_per_cell(
    results: dict[str, list[CellErrors]], mateformer_recipe: MateformerRecipe
) -> None:
    errors = pool_errors(results["validation"], GNSS_1M.complete_from(mateformer_recipe), "best knn")
    np.testing.assert_array_equal(errors, np.full(8, 0.5, np.float32))


def figures(results: dict[str, list[CellErrors]], recipe: MateformerRecipe, words: str) -> dict:
    summary = summarise(results, select_possible(HEADLINE, recipe), recipe)
    (one,) = (one for label, one in summary["splits"]["validation"]["acceptance"].items() if words in label)
    return one


def test_a_criterion_says_what_was_measured_and_whether_it_is_met(
    results: dict[str, list[CellErrors]], mateformer_recipe: MateformerRecipe
) -> None:
    street = figures(results, mateformer_recipe, "street radio, GNSS 1 m: mean")
    assert street == {"measured": 0.25, "least": 0.0, "most": 0.45, "met": True}
    nlos = figures(results, mateformer_recipe, "NLOS users, GNSS 1 m")
    assert (nlos["measured"], nlos["met"]) == (0.6, False)
    covered = figures(results, mateformer_recipe, "(f) GNSS 1 m")
    assert (covered["measured"], covered["met"]) == (0.75, False)


def test_a_criterion_that_was_not_wholly_measured_has_no_figure(
    results: dict[str, list[CellErrors]], mateformer_recipe: MateformerRecipe
) -> None:
    assert figures(results, mateformer_recipe, "the worst of GNSS")["measured"] is None
    assert figures(results, mateformer_recipe, "250 references")["met"] is None


def test_a_missed_criterion_says_so(results: dict[str, list[CellErrors]], mateformer_recipe: MateformerRecipe) -> None:
    conditions = select_possible(HEADLINE, mateformer_recipe)
    table = write_tables(mateformer_recipe, conditions, summarise(results, conditions, mateformer_recipe))
    assert "| (b) street radio, GNSS 1 m: mean error in m | 0.45 | 0.250 |" in table
    assert "| (a) NLOS users, GNSS 1 m: ratio to the best kNN | 0.55 | 0.600 (missed) |" in table
    assert "| 0.9 to 0.99 | 0.750 (missed) |" in table


def test_cells_that_are_all_in_sight_are_summarised_apart(mateformer_recipe: MateformerRecipe) -> None:
    conditions = select_possible(HEADLINE, mateformer_recipe)
    cells = [write_cell("a", IN_SIGHT, mateformer_recipe), write_cell("b", np.ones(4, bool), mateformer_recipe)]
    summary = summarise({"test": cells}, conditions, mateformer_recipe)
    one = summary["splits"]["test"]["all"]["gnss_1m"]["mateformer"]
    assert one["all_los"]["mean_m"] == pytest.approx(0.2)
    assert one["los"]["mean_m"] == pytest.approx((0.2 * 4 + 0.1 * 2) / 6, abs=1e-4)


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


def test_a_split_without_nlos_users_has_a_dash(mateformer_recipe: MateformerRecipe) -> None:
    seen = [write_cell("a", np.ones(4, bool), mateformer_recipe)]
    conditions = select_possible(HEADLINE, mateformer_recipe)
    table = write_tables(mateformer_recipe, conditions, summarise({"test": seen}, conditions, mateformer_recipe))
    (row,) = (line for line in table.splitlines() if line.startswith("| NLOS users"))
    assert set(row.replace("NLOS users", "").split("|")[4:-1]) == {" - "}


def test_a_condition_of_some_cells_says_of_how_many(
    results: dict[str, list[CellErrors]], mateformer_recipe: MateformerRecipe
) -> None:
    conditions = select_possible(HEADLINE, mateformer_recipe)
    del results["validation"][0].located[NO_GNSS.complete_from(mateformer_recipe)]
    summary = summarise(results, conditions, mateformer_recipe)
    assert summary["splits"]["validation"]["all"]["no_gnss"]["mateformer"]["mean_m"] == pytest.approx(0.3)
    table = write_tables(mateformer_recipe, conditions, summary)
    assert "| no GNSS (1 of 2 cells) |" in table
    assert "| GNSS 1 m | " in table
