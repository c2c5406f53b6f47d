import pytest

from models.mateformer.recipe import MateformerRecipe
from models.pipeline.schedule import learning_rate


def test_the_cosine_schedule_warms_up_and_ends_near_zero(mateformer_recipe: MateformerRecipe) -> None:
    settings = mateformer_recipe.optimiser
    rates = [learning_rate(settings, step) for step in range(settings.steps)]
    assert rates[0] == pytest.approx(settings.learning_rate / settings.warmup_steps)
    assert max(rates) == pytest.approx(settings.learning_rate)
    assert rates[-1] < 0.01 * settings.learning_rate


def test_the_papers_schedule_drops_to_a_fifth_every_fifty_thousand_steps_after_a_hundred_thousand(
    mateformer_recipe: MateformerRecipe,
) -> None:
    paper = mateformer_recipe.optimiser.model_copy(
        update={"schedule": "step", "steps": 300_000, "warmup_steps": 0, "learning_rate": 1e-4}
    )
    expected = {0: 1e-4, 99_999: 1e-4, 100_000: 2e-5, 149_999: 2e-5, 150_000: 4e-6, 299_999: 1.6e-7}
    for step, rate in expected.items():
        assert learning_rate(paper, step) == pytest.approx(rate), step
