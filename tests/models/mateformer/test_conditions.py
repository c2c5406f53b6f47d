import pytest

from models.mateformer.conditions import (
    ACCEPTANCE,
    ALL,
    AXES,
    GNSS_1M,
    HEADLINE,
    REGION_M,
    SAME_DAY,
    STREET_1M,
    WEEK_LATER,
    Condition,
    UnknownCondition,
    find_conditions,
    select_possible,
)
from models.mateformer.designs import DESIGNS, find_design
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


def test_conditions_are_chosen_by_name_and_by_set() -> None:
    assert find_conditions(["headline"]) == list(HEADLINE)
    assert [one.name for one in find_conditions(["street", "8x8_gnss_1m"])] == ["street", "8x8_gnss_1m"]
    with pytest.raises(UnknownCondition, match="sunshine"):
        find_conditions(["street", "sunshine"])


def test_everything_that_is_accepted_is_measured_by_an_evaluation_of_all() -> None:
    assert set(ACCEPTANCE) <= set(ALL)


def test_each_design_is_measured_clean_without_fix_and_with_street_radio() -> None:
    for name in DESIGNS:
        seen = {(one.gnss, one.radio == STREET_1M.radio) for one in ALL if one.design == name}
        assert seen == {(1.0, False), (None, False), (1.0, True)}


def test_regions_and_weeks_are_measured_with_and_without_a_fix_beside_what_they_are_compared_with() -> None:
    for special in ((REGION_M, None), (None, SAME_DAY), (None, WEEK_LATER)):
        assert {one.gnss for one in ALL if (one.region, one.streets) == special} == {1.0, None}


def test_a_design_of_another_carrier_has_its_own_path_tables(mateformer_recipe: MateformerRecipe, tmp_path) -> None:
    folders = {name: find_design(name, mateformer_recipe).folder(tmp_path, mateformer_recipe) for name in DESIGNS}
    assert folders["64x1"] == tmp_path / "28GHz"
    assert folders["8x8"] == find_design("base", mateformer_recipe).folder(tmp_path, mateformer_recipe) == tmp_path
