from models.mateformer.conditions import ALL, AXES, GNSS_1M, HEADLINE, STREET_1M, Condition, select_possible
from models.mateformer.recipe import MateformerRecipe
from reference_db.retrieval import MODES


def test_no_two_conditions_share_a_name_unless_they_are_equal() -> None:
    by_name: dict[str, Condition] = {}
    for condition in ALL:
        assert by_name.setdefault(condition.name, condition) == condition


def test_the_headline_is_what_the_product_promises() -> None:
    assert [condition.gnss for condition in HEADLINE] == [1.0, 10.0, None, 1.0]
    assert {condition.mode for condition in HEADLINE} == {"fused"}
    street = STREET_1M.radio
    assert (street.snr_db, street.phase, street.timing_s) == (20, True, 20e-9)


def test_every_retrieval_mode_is_measured() -> None:
    assert {condition.mode for condition in AXES["Retrieval"]} == set(MODES)


def test_modes_that_need_a_fix_are_never_used_without_one() -> None:
    assert all(condition.gnss is not None for condition in ALL if condition.mode == "neighbourhood")


def test_a_condition_equal_to_the_recipe_is_measured_once_under_the_headlines_name(
    mateformer_recipe: MateformerRecipe,
) -> None:
    recipe = mateformer_recipe.model_copy(
        update={"retrieval": mateformer_recipe.retrieval.model_copy(update={"neighbourhood_size": 64})}
    )
    measured = select_possible(ALL, recipe)
    assert len(measured) == len(set(measured))
    names = [condition.name for condition in measured]
    assert GNSS_1M.name in names
    assert "neighbours_64" not in names
    assert "neighbours_32" in names


def test_conditions_that_need_larger_cells_are_left_out(mateformer_recipe: MateformerRecipe) -> None:
    few = mateformer_recipe.model_copy(update={"cells": mateformer_recipe.cells.model_copy(update={"references": 90})})
    names = {condition.name for condition in select_possible(ALL, few)}
    assert not names & {"references_2000", "references_250", "neighbours_96"}
    assert "neighbours_64" in names
