from models.mateformer.recipe import MateformerRecipe
from models.pipeline.experiment import apply_overrides


def test_overrides_change_only_the_key_they_name(mateformer_recipe: MateformerRecipe) -> None:
    recipe = mateformer_recipe.model_dump(mode="json")
    changed = apply_overrides(recipe, {"model.depth": 8, "seed": 3})
    assert (changed["model"].pop("depth"), changed.pop("seed")) == (8, 3)
    assert (recipe["model"].pop("depth"), recipe.pop("seed")) == (2, 7)
    assert changed == recipe
