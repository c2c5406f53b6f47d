import math
from pathlib import Path

import numpy as np
import pytest
import torch

from models.errors import TrainerError
from models.lwlm.data import Links
from models.lwlm.decoding import (
    DecodingLearner,
    Lwlm,
    keep_stations,
    laplace_surprise,
    load_lwlm,
    planar_surprise,
)
from models.lwlm.labels import LabelledUsers, label_users
from models.lwlm.network import LwlmEncoder
from models.lwlm.recipe import LwlmRecipe

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def recipe(lwlm_recipe: LwlmRecipe) -> LwlmRecipe:
    return lwlm_recipe.for_decoders()


@pytest.fixture(scope="module")
def labelled(recipe: LwlmRecipe, links: Links) -> LabelledUsers:
    return label_users(links, torch.arange(links.users), recipe.decoding.snapshots, 1)


@pytest.fixture
def encoder(recipe: LwlmRecipe) -> LwlmEncoder:
    torch.manual_seed(99)
    return LwlmEncoder(recipe.config())


def change(recipe: LwlmRecipe, **decoding: object) -> LwlmRecipe:
    return recipe.model_copy(update={"decoding": recipe.decoding.model_copy(update=decoding)})


def test_a_frozen_encoder_stays_as_it_was(
    recipe: LwlmRecipe, labelled: LabelledUsers, encoder: LwlmEncoder, tmp_path: Path
) -> None:
    frozen = change(recipe, frozen=True)
    DecodingLearner(frozen, labelled, encoder, tmp_path, CPU).run()
    trained = load_lwlm(tmp_path, frozen)
    for name, weights in encoder.state_dict().items():
        torch.testing.assert_close(trained.encoder.state_dict()[name], weights, rtol=1e-6, atol=1e-7)
    assert trained.decoders.range.out.weight.abs().sum() > 0  # the decoders learned


def test_decoders_start_from_the_given_encoder_and_train_it(
    recipe: LwlmRecipe, labelled: LabelledUsers, encoder: LwlmEncoder, tmp_path: Path
) -> None:
    learner = DecodingLearner(recipe, labelled, encoder, tmp_path, CPU)
    for name, weights in encoder.state_dict().items():
        assert torch.equal(learner.model.encoder.state_dict()[name], weights)
    without = DecodingLearner(recipe, labelled, None, tmp_path / "without", CPU)
    assert not torch.equal(without.model.encoder.embed.weight, encoder.embed.weight)
    for _ in range(2):
        learner.advance(learner.model)
    assert not torch.equal(learner.model.encoder.embed.weight, encoder.embed.weight)


@pytest.mark.parametrize("changes", [{}, {"encoder": "cnn", "pretrained": False, "anchored": False}])
def test_training_reduces_the_error(
    recipe: LwlmRecipe, labelled: LabelledUsers, changes: dict[str, object], tmp_path: Path
) -> None:
    changed = change(recipe, **changes)
    learner = DecodingLearner(changed, labelled, None, tmp_path, CPU)

    def measure() -> float:
        with torch.no_grad():
            return sum(float(learner.compute_loss(learner.model, np.random.default_rng(one))[0]) for one in range(4))

    before = measure()
    for _ in range(20):
        learner.advance(learner.model)
        learner.step = min(learner.step, 1)  # at the full learning rate
    assert measure() < 0.95 * before


def test_a_stopped_and_resumed_run_equals_one_never_stopped(
    recipe: LwlmRecipe, labelled: LabelledUsers, encoder: LwlmEncoder, tmp_path: Path
) -> None:
    straight = DecodingLearner(recipe, labelled, encoder, tmp_path / "straight", CPU)
    straight.run(until=4)
    DecodingLearner(recipe, labelled, encoder, tmp_path / "stopped", CPU).run(until=1)
    resumed = DecodingLearner(recipe, labelled, encoder, tmp_path / "stopped", CPU)
    assert resumed.step == 1
    resumed.run(until=4)
    for name, weights in straight.model.state_dict().items():
        assert torch.equal(weights, resumed.model.state_dict()[name]), name


def test_several_processes_are_refused(
    recipe: LwlmRecipe, labelled: LabelledUsers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainerError, match="torchrun"):
        DecodingLearner(recipe, labelled, None, tmp_path, CPU)


def test_spreads_learn_from_the_errors_but_do_not_change_the_answers(
    recipe: LwlmRecipe, labelled: LabelledUsers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = DecodingLearner(recipe, labelled, None, tmp_path, CPU)

    def gradients() -> dict[str, torch.Tensor]:
        learner.model.zero_grad()
        loss, _ = learner.compute_loss(learner.model, np.random.default_rng(1))
        loss.backward()
        decoders = learner.model.decoders
        return {"range": decoders.range.out.weight.grad.clone(), "aoa": decoders.aoa.out.weight.grad.clone()}

    whole = gradients()
    monkeypatch.setattr("models.lwlm.decoding.laplace_surprise", lambda error, sigma: 0 * sigma)
    monkeypatch.setattr("models.lwlm.decoding.planar_surprise", lambda error, covariance: 0 * covariance)
    without = gradients()
    for task, gradient in whole.items():
        torch.testing.assert_close(gradient[0], without[task][0])  # the row of the answer
        assert gradient[1].abs().sum() > 0  # the row of the spread
        assert not without[task][1].any()


def test_the_surprise_of_an_error_is_smallest_for_its_own_size() -> None:
    sigma = torch.linspace(0.5, 20, 400)
    best = sigma[laplace_surprise(torch.full((400,), 3.0), sigma).argmin()]
    assert best == pytest.approx(3.0 * math.sqrt(2), rel=0.03)
    assert laplace_surprise(torch.tensor(2.0), torch.tensor(3.0)) == pytest.approx(
        -float(torch.distributions.Laplace(0.0, 3 / math.sqrt(2)).log_prob(torch.tensor(2.0))), rel=1e-5
    )


def test_a_planar_surprise_depends_on_the_mahalanobis_distance_and_the_area() -> None:
    covariance = torch.tensor([[[4.0, 1.2], [1.2, 1.0]]])
    error = torch.tensor([[1.0, -0.7]])
    squared = error[0] @ covariance[0].inverse() @ error[0]
    expected = math.sqrt(3 * float(squared)) + 0.5 * math.log(float(covariance[0].det()))
    assert planar_surprise(error, covariance) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("stations", [2, 3, 4])
def test_two_or_more_stations_are_kept_and_only_those_that_reach_the_user(
    stations: int, generator: torch.Generator
) -> None:
    reached = torch.rand((3000, stations), generator=generator) < 0.7
    kept = keep_stations(reached, generator)
    assert not (kept & ~reached).any()
    assert (kept.sum(1) >= reached.sum(1).clamp_max(2)).all()
    everywhere = keep_stations(torch.ones(3000, stations, dtype=torch.bool), generator)
    assert everywhere.sum(1).unique().tolist() == list(range(2, stations + 1))
    assert (everywhere.float().mean(0) - everywhere.float().mean()).abs().max() < 0.05  # no station is preferred


def test_the_answers_do_not_depend_on_gain_and_phase_of_the_receiver(
    recipe: LwlmRecipe, generator: torch.Generator
) -> None:
    torch.manual_seed(0)
    model = Lwlm(recipe).eval()
    H = torch.randn((3, 8, 32), generator=generator, dtype=torch.complex64)
    configuration = torch.tensor([[20e6, 10.0]] * 3)
    with torch.inference_mode():
        one, _ = model(torch.view_as_real(H), configuration)
        other, _ = model(torch.view_as_real(H * 1e-4 * 1j**0.3), configuration)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
