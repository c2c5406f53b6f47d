from pathlib import Path

import pytest
from pydantic import ValidationError

from models.families import find_yaml
from models.scadf_moe.experiment import load_experiment
from models.scadf_moe.recipe import ScadfMoERecipe

# Checkpoints and artifacts of these recipes name these digests. A new setting must not change them.
DIGESTS = {
    "munich": "7d352efec6d62a94ad63c7cd9595f82b2085a0b43e073126e4c24e05f3a4a8a8",
    "scadf-moe": "6ec9b3e5c85ce7892529f0f54aede62e97ccf59a2309b843734318cff95d9ec6",
}
RUN_DIGEST = "19974b332488dd3deb50eb8a65d6be9ab751adad4c370f6cd9f239f3f36ef2e9"  # of the experiment scadf-mix


def find_recipe(name: str) -> Path:
    (path,) = (path for path in find_yaml("scadf_moe", "recipes") if path.stem == name)
    return path


@pytest.mark.parametrize("name", DIGESTS)
def test_the_weights_of_a_recipe_stay_valid_when_settings_are_added(name: str) -> None:
    assert ScadfMoERecipe.load(find_recipe(name)).digest == DIGESTS[name]


def test_the_runs_of_an_experiment_stay_valid_when_settings_are_added() -> None:
    (path,) = (path for path in find_yaml("scadf_moe", "experiments") if path.stem == "scadf-mix")
    _, recipes = load_experiment(path, "small")
    assert next(iter(recipes.values())).digest == RUN_DIGEST


def test_a_setting_at_its_default_is_the_same_recipe_and_another_value_is_not(scadf_moe_recipe: ScadfMoERecipe) -> None:
    def digest(**changes: object) -> str:
        return ScadfMoERecipe.model_validate(scadf_moe_recipe.model_dump() | changes).digest

    assert digest(readout="own", diversity_kind="written") == scadf_moe_recipe.digest
    changed = [
        digest(readout="pooled"),
        digest(diversity_kind="paired"),
        digest(model={**scadf_moe_recipe.model, "residual_init": 1.0}),
    ]
    assert len({scadf_moe_recipe.digest, *changed}) == 4


def test_the_readout_and_the_residual_init_of_a_recipe_reach_the_model(scadf_moe_recipe: ScadfMoERecipe) -> None:
    changes = {"readout": "pooled", "model": {**scadf_moe_recipe.model, "residual_init": 1.0, "static": True}}
    config = ScadfMoERecipe.model_validate(scadf_moe_recipe.model_dump() | changes).config()
    assert (config.readout, config.residual_init, config.static) == ("pooled", 1.0, True)
    assert (config.width, config.vertices) == (16, 3)


def test_numbers_are_a_readout_of_the_rivals_only(scadf_moe_recipe: ScadfMoERecipe) -> None:
    content = scadf_moe_recipe.model_dump() | {"readout": "numbers"}
    with pytest.raises(ValidationError, match="rivals"):
        ScadfMoERecipe.model_validate(content)
    assert ScadfMoERecipe.model_validate(content | {"fusion": "soft-moe"}).config().readout == "numbers"
