import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from models.families import find_yaml
from models.mateformer.data import build_views
from models.mateformer.learner import PERFECT, MateformerLearner, draw_label_sigmas, draw_radios, load_model
from models.mateformer.network import Estimates
from models.mateformer.recipe import MateformerRecipe, Radios
from models.pipeline.learner import CHECKPOINT_FILE, LOG_FILE, RecipeChanged
from models.radio.impairments import Impairments
from tests.models.one_path import describe

CPU = torch.device("cpu")
DATA = Path(__file__).parents[1] / "data"


def make_learner(recipe: MateformerRecipe, folder: Path) -> MateformerLearner:
    return MateformerLearner(recipe, build_views(recipe, DATA), folder, CPU)


def test_a_stopped_and_resumed_run_equals_one_never_stopped(
    mateformer_recipe: MateformerRecipe, tmp_path: Path
) -> None:
    straight = make_learner(mateformer_recipe, tmp_path / "straight")
    straight.run(until=12)
    make_learner(mateformer_recipe, tmp_path / "stopped").run(until=5)
    resumed = make_learner(mateformer_recipe, tmp_path / "stopped")
    assert resumed.step == 5
    resumed.run(until=12)
    for name, weights in straight.model.state_dict().items():
        assert torch.equal(weights, resumed.model.state_dict()[name]), name


def test_training_reduces_the_error(mateformer_recipe: MateformerRecipe, tmp_path: Path) -> None:
    make_learner(mateformer_recipe, tmp_path).run(until=1)
    first = json.loads((tmp_path / LOG_FILE).read_text().splitlines()[0])["error_m"]
    fit = make_learner(mateformer_recipe, tmp_path)
    fit.run()
    last = [float(fit.advance(fit.model)["error_m"]) for _ in range(5)]
    assert sum(last) / 5 < 0.95 * first


def test_a_folder_of_another_recipe_is_refused_and_kept(mateformer_recipe: MateformerRecipe, tmp_path: Path) -> None:
    make_learner(mateformer_recipe, tmp_path).run(until=1)
    before = (tmp_path / CHECKPOINT_FILE).read_bytes()
    with pytest.raises(RecipeChanged):
        make_learner(mateformer_recipe.model_copy(update={"seed": 8}), tmp_path)
    assert (tmp_path / CHECKPOINT_FILE).read_bytes() == before


def test_every_committed_recipe_loads() -> None:
    recipes = find_yaml("mateformer", "recipes")
    assert recipes
    for path in recipes:
        recipe = MateformerRecipe.load(path)
        held_out = {city.split(":")[0] for city in recipe.cells.test}
        seen = {city.split(":")[0] for city in recipe.cells.train + recipe.cells.validation}
        assert not held_out & seen, path
        assert not set(recipe.cells.train) & set(recipe.cells.validation), path


def test_two_processes_under_torchrun_keep_one_model(mateformer_recipe: MateformerRecipe, tmp_path: Path) -> None:
    recipe = mateformer_recipe.model_copy(
        update={"optimiser": mateformer_recipe.optimiser.model_copy(update={"steps": 1000})}
    )
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    run = tmp_path / "run"
    subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *("-m", "models.cli", "fit", str(tmp_path / "recipe.yaml"), str(run)),
            *("--paths", str(DATA), "--until", "4"),
        ],
        check=True,
        capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    state = torch.load(run / CHECKPOINT_FILE, weights_only=True)
    assert state["step"] == 4
    alone = make_learner(recipe, tmp_path / "alone")
    alone.run(until=4)
    # Two ranks average the gradients of different batches: the same start, another path.
    assert any(not torch.equal(w, state["model"][n]) for n, w in alone.model.state_dict().items())
    assert len((run / LOG_FILE).read_text().splitlines()) == 1


def test_the_last_steps_are_averaged_into_what_a_run_delivers(
    mateformer_recipe: MateformerRecipe, tmp_path: Path
) -> None:
    fit = make_learner(mateformer_recipe, tmp_path)
    fit.run(until=10)
    delivered, last = load_model(tmp_path, mateformer_recipe).state_dict(), fit.model.state_dict()
    assert any((delivered[name] - last[name]).abs().max() > 1e-5 for name in last)
    none = mateformer_recipe.optimiser.model_copy(update={"average": 0.0})
    unaveraged = mateformer_recipe.model_copy(update={"optimiser": none})
    fit = make_learner(unaveraged, tmp_path / "none")
    fit.run(until=10)
    for name, weights in load_model(tmp_path / "none", unaveraged).state_dict().items():
        torch.testing.assert_close(weights, fit.model.state_dict()[name])


def test_a_run_starts_from_the_weights_of_an_artifact(mateformer_recipe: MateformerRecipe, tmp_path: Path) -> None:
    old = make_learner(mateformer_recipe, tmp_path / "old")
    old.run(until=3)
    weights = load_model(tmp_path / "old", mateformer_recipe).state_dict()
    save_file(weights, tmp_path / "weights.safetensors")
    recipe = mateformer_recipe.model_copy(update={"start": str(tmp_path / "weights.safetensors")})
    assert recipe.digest != mateformer_recipe.digest
    new = make_learner(recipe, tmp_path / "new")
    assert new.step == 0
    for name, value in new.model.state_dict().items():
        assert torch.equal(value, weights[name]), name
    new.run(until=2)
    # The run's own checkpoint counts after a stop, not the weights that it started from.
    resumed = make_learner(recipe, tmp_path / "new")
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, new.model.state_dict()[name]), name


# What a step is made of.


def radios(**shares: float) -> Radios:
    nothing = {"impaired": 0.0, "apart": 0.0, "surveyed": 0.0, "free": 0.0, "unknown": 0.0}
    worst = Impairments(snr_db=10, phase=True, timing_s=25e-9, dead_antennas=2)
    return Radios(**nothing | shares, free_timing=200e-9, worst=worst)


def draw_many(some: Radios, antennas: int = 32, times: int = 400) -> list[tuple]:
    rng = np.random.default_rng(1)
    return [draw_radios(some, antennas, rng) for _ in range(times)]


def test_survey_and_users_have_one_radio_or_one_each_or_only_the_users_have_a_bad_one() -> None:
    assert all(survey == users == PERFECT for survey, users, _ in draw_many(radios()))
    assert all(survey is users and users != PERFECT for survey, users, _ in draw_many(radios(impaired=1.0)))
    assert all(survey != users and PERFECT not in (survey, users) for survey, users, _ in draw_many(radios(apart=1.0)))
    assert all(survey == PERFECT != users for survey, users, _ in draw_many(radios(surveyed=1.0)))
    mixed = draw_many(radios(impaired=0.4, apart=0.2, surveyed=0.1), times=2000)
    shares = [
        sum(survey == users != PERFECT for survey, users, _ in mixed),
        sum(survey != users and survey != PERFECT for survey, users, _ in mixed),
        sum(survey == PERFECT != users for survey, users, _ in mixed),
        sum(survey == users == PERFECT for survey, users, _ in mixed),
    ]
    np.testing.assert_allclose(np.array(shares) / 2000, [0.4, 0.2, 0.1, 0.3], atol=0.04)


def test_the_told_stos_are_the_standard_deviations_of_the_radios_or_unknown() -> None:
    for survey, users, told in draw_many(radios(apart=0.5, surveyed=0.5)):
        # The offset is uniform within ± timing_s.
        np.testing.assert_allclose(told, [survey.timing_s / 3**0.5, users.timing_s / 3**0.5])
    assert all(told == (None, None) for *_, told in draw_many(radios(apart=1.0, unknown=1.0)))
    told = [sto for *_, both in draw_many(radios(apart=1.0, unknown=0.25), times=2000) for sto in both]
    assert sum(sto is None for sto in told) / len(told) == pytest.approx(0.25, abs=0.03)


def test_some_bad_radios_run_free() -> None:
    timings = [users.timing_s for _, users, _ in draw_many(radios(surveyed=1.0, free=0.3), times=2000)]
    assert max(timings) > 150e-9
    bound = np.array(timings) > 25e-9
    # A free radio is drawn milder than the worst: its timing is the square root of a uniform share of 200 ns.
    assert bound.mean() == pytest.approx(0.3 * (1 - (25 / 200) ** 2), abs=0.04)


def test_no_antenna_of_a_small_array_is_dead() -> None:
    assert all(users.dead_antennas == 0 for _, users, _ in draw_many(radios(impaired=1.0), antennas=4))
    assert any(users.dead_antennas for _, users, _ in draw_many(radios(impaired=1.0), antennas=5))


def test_label_errors_are_log_uniform_in_their_share_of_the_neighbourhoods() -> None:
    sigmas = draw_label_sigmas(8000, 0.25, 1.0, torch.Generator().manual_seed(1)).numpy()
    wrong = sigmas[sigmas > 0]
    assert len(wrong) / len(sigmas) == pytest.approx(0.25, abs=0.02)
    assert wrong.min() >= 0.02
    assert wrong.max() <= 1.0
    np.testing.assert_allclose(np.log(wrong).mean(), np.log(0.02) / 2, atol=0.08)


class Spy:
    """In place of the model: keeps what it is asked."""

    def __init__(self) -> None:
        self.inputs: list[tuple[torch.Tensor, ...]] = []

    def __call__(self, *inputs: torch.Tensor) -> Estimates:
        self.inputs.append(inputs)
        users = torch.zeros(inputs[4].shape, requires_grad=True)
        ones = torch.ones(users.shape[:2])
        precision, covariance = torch.ones(*users.shape[:2], 3), ones[..., None, None] * torch.eye(2)
        return Estimates(users, precision, ones, covariance, streams=users)


def ask(recipe: MateformerRecipe, folder: Path, steps: int = 1) -> tuple[MateformerLearner, Spy]:
    learner, spy = make_learner(recipe, folder), Spy()
    for step in range(steps):
        learner.compute_loss(spy, np.random.default_rng(step))
    return learner, spy


def clean(recipe: MateformerRecipe, **changes: object) -> MateformerRecipe:
    """The recipe without augmentation, bad radios and label errors."""
    nothing = {"rotate": False, "mirror": False, "ramps": False, "reverse": 0.0}
    sections = {
        "symmetry": recipe.symmetry.model_copy(update=nothing),
        "radios": radios(),
        "batch": recipe.batch.model_copy(update={"mislabelled": 0.0}),
        "views": recipe.views.model_copy(update={"own": 1.0}),
    }
    return recipe.model_copy(update=sections | changes)


def test_the_model_is_told_the_label_errors_that_are_applied(
    mateformer_recipe: MateformerRecipe, tmp_path: Path
) -> None:
    exact = clean(mateformer_recipe)
    wrong = exact.model_copy(
        update={"batch": exact.batch.model_copy(update={"mislabelled": 1.0, "neighbourhoods": 200})}
    )
    exact = exact.model_copy(update={"batch": wrong.batch.model_copy(update={"mislabelled": 0.0})})
    (_, asked), (_, truly) = ask(wrong, tmp_path / "wrong"), ask(exact, tmp_path / "exact")
    _, positions, sigmas, *_ = asked.inputs[0]
    assert not truly.inputs[0][2].any()
    assert sigmas.min() > 0
    assert torch.equal(sigmas, sigmas[:, :1].expand_as(sigmas))  # one survey, one quality
    errors = (positions - truly.inputs[0][1]) / sigmas[..., None]
    assert float(errors.std()) == pytest.approx(1.0, abs=0.05)
    assert float(errors[sigmas < 0.1].std()) == pytest.approx(1.0, abs=0.1)
    # The users' own positions are the truth that their fixes scatter around: they have no label error.
    assert torch.equal(asked.inputs[0][3], truly.inputs[0][3])


def test_clean_features_are_those_that_the_service_computes(
    mateformer_recipe: MateformerRecipe, tmp_path: Path
) -> None:
    learner, spy = ask(clean(mateformer_recipe), tmp_path)
    features, positions = spy.inputs[0][0][0].numpy(), spy.inputs[0][1][0].numpy()
    views = [view for view in learner.views if np.isin(positions, view.positions).all()]
    candidates = []
    for view in views:
        rows = [int(np.abs(view.positions - position).sum(1).argmin()) for position in positions]
        csi = view.csi[rows].astype(np.float32).view(np.complex64)[..., 0]
        candidates.append(np.abs(describe(view.channel.with_sto(0.0, 0.0), csi) - features).max())
    assert min(candidates) < 1e-3


def test_each_side_has_its_own_radio(mateformer_recipe: MateformerRecipe, tmp_path: Path) -> None:
    """A survey without impairments has the features of its CSI while the users' differ."""
    recipe = clean(mateformer_recipe)
    (_, perfect), (_, surveyed), (_, impaired) = (
        ask(recipe.model_copy(update={"radios": some}), tmp_path / name)
        for name, some in {
            "perfect": radios(),
            "surveyed": radios(surveyed=1.0, unknown=1.0),
            "impaired": radios(impaired=1.0, unknown=1.0),
        }.items()
    )

    def off(spy: Spy, side: int) -> float:
        spectra = slice(0, -11)  # all but the description
        return float((spy.inputs[0][side][0] - perfect.inputs[0][side][0])[..., spectra].abs().max())

    assert off(surveyed, 0) < 1e-3
    assert off(surveyed, 3) > 0.1
    assert min(off(impaired, 0), off(impaired, 3)) > 0.1


def test_the_retrieval_settings_do_not_change_the_digest(mateformer_recipe: MateformerRecipe) -> None:
    retrieval = mateformer_recipe.retrieval.model_copy(update={"passes": 1})
    assert mateformer_recipe.model_copy(update={"retrieval": retrieval}).digest == mateformer_recipe.digest
