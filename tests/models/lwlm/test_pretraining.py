from pathlib import Path

import numpy as np
import pytest
import torch

from models.errors import TrainerError
from models.lwlm.data import Links
from models.lwlm.pretraining import PretrainingLearner, add_noise, draw_bandwidth, draw_station, load_encoder
from models.lwlm.recipe import LwlmRecipe
from models.pipeline.learner import RecipeChanged

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def recipe(lwlm_recipe: LwlmRecipe) -> LwlmRecipe:
    return lwlm_recipe.for_pretraining()


@pytest.mark.parametrize("objective", ["dti", "sf_mcm", "picl"])
def test_each_objective_alone_falls_in_a_few_steps(
    objective: str, recipe: LwlmRecipe, links: Links, tmp_path: Path
) -> None:
    weights = {"dti": 0.0, "sf_mcm": 0.0, "picl": 0.0} | {objective: 1.0}
    alone = recipe.model_copy(update={"objectives": recipe.objectives.model_copy(update=weights)})
    learner = PretrainingLearner(alone, links, tmp_path, CPU)
    learner.optimiser.param_groups[0]["lr"] = 1e-2
    losses = []
    for _ in range(25):
        loss, figures = learner.compute_loss(learner.model, np.random.default_rng(3))  # the same batch
        assert loss == figures[objective]
        learner.optimiser.zero_grad()
        loss.backward()
        learner.optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0], losses


def test_a_stopped_and_resumed_pretraining_equals_one_never_stopped(
    recipe: LwlmRecipe, links: Links, tmp_path: Path
) -> None:
    straight = PretrainingLearner(recipe, links, tmp_path / "straight", CPU)
    straight.run(until=4)
    PretrainingLearner(recipe, links, tmp_path / "stopped", CPU).run(until=2)
    resumed = PretrainingLearner(recipe, links, tmp_path / "stopped", CPU)
    assert resumed.step == 2
    resumed.run(until=4)
    for name, weights in straight.model.state_dict().items():
        assert torch.equal(weights, resumed.model.state_dict()[name]), name
    for name, weights in load_encoder(tmp_path / "straight", recipe).state_dict().items():
        assert torch.equal(weights, load_encoder(tmp_path / "stopped", recipe).state_dict()[name]), name


def test_an_objective_of_weight_zero_teaches_nothing(recipe: LwlmRecipe, links: Links, tmp_path: Path) -> None:
    without = recipe.objectives.model_copy(update={"dti": 0.0, "picl": 0.0})
    learner = PretrainingLearner(recipe.model_copy(update={"objectives": without}), links, tmp_path, CPU)
    loss, _ = learner.compute_loss(learner.model, np.random.default_rng(1))
    loss.backward()
    model = learner.model
    assert not any(one.grad.abs().sum() for part in (model.delay_angle, model.projector) for one in part.parameters())
    assert all(one.grad.abs().sum() > 0 for one in model.mask.parameters())
    assert model.encoder.embed.weight.grad.abs().sum() > 0


def test_decoders_do_not_change_the_pretraining(lwlm_recipe: LwlmRecipe) -> None:
    decoding = lwlm_recipe.decoding.model_copy(update={"labels": 30, "seed": 5, "frozen": True})
    other = lwlm_recipe.model_copy(update={"decoding": decoding, "name": "other", "carrier_frequency": (1e9, 2e9)})
    assert other.for_pretraining().digest == lwlm_recipe.for_pretraining().digest
    assert other.digest != lwlm_recipe.digest
    slower = lwlm_recipe.objectives.model_copy(update={"dti": 1.0})
    changed = lwlm_recipe.model_copy(update={"objectives": slower})
    assert changed.for_pretraining().digest != lwlm_recipe.for_pretraining().digest


def test_an_encoder_of_another_recipe_is_refused(recipe: LwlmRecipe, links: Links, tmp_path: Path) -> None:
    PretrainingLearner(recipe, links, tmp_path, CPU).run(until=1)
    with pytest.raises(RecipeChanged):
        load_encoder(tmp_path, recipe.model_copy(update={"seed": 8}))


def test_several_processes_are_refused(
    recipe: LwlmRecipe, links: Links, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainerError, match="torchrun"):
        PretrainingLearner(recipe, links, tmp_path, CPU)


def test_only_stations_that_reach_a_user_are_drawn_and_each_of_them(links: Links, generator: torch.Generator) -> None:
    user = torch.arange(links.users).repeat(60)
    station = draw_station(links, user, generator)
    assert links.reached[user, station].all()
    drawn = torch.zeros_like(links.reached)
    drawn[user, station] = True
    assert torch.equal(drawn, links.reached)


def test_bandwidths_are_drawn_log_uniformly(recipe: LwlmRecipe, generator: torch.Generator) -> None:
    drawn = draw_bandwidth(recipe.configurations, 4000, generator)
    assert drawn.min() >= 10e6
    assert drawn.max() <= 50e6
    assert drawn.median() == pytest.approx(np.sqrt(10e6 * 50e6), rel=0.05)


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0])
def test_noise_has_the_power_of_the_stated_ratio(snr_db: float, generator: torch.Generator) -> None:
    csi = torch.zeros(1, 32, 128, 2)
    csi[..., 0] = 3e-5  # a channel of equal entries: what differs from their mean is noise
    noisy = torch.view_as_complex(add_noise(csi, (snr_db, snr_db), generator))
    signal = noisy.mean()
    ratio = signal.abs().square() / (noisy - signal).abs().square().mean()
    assert float(10 * ratio.log10()) == pytest.approx(snr_db, abs=0.3)
    assert float(noisy.abs().square().mean()) == pytest.approx(1, abs=1e-4)
