import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from models.mateformer.learner import Fit, load_model, loss_of
from models.pipeline.learner import CHECKPOINT_FILE, LOG_FILE, RecipeChanged, learning_rate
from models.pipeline.recipe import Recipe, load_recipe
from models.pipeline.recipe import Teacher as TeacherSettings

CPU = torch.device("cpu")
DATA = Path(__file__).parents[1] / "data"


def test_a_stopped_and_resumed_run_equals_one_never_stopped(small_recipe: Recipe, tmp_path: Path) -> None:
    straight = Fit(small_recipe, DATA, tmp_path / "straight", CPU)
    straight.run(until=12)
    Fit(small_recipe, DATA, tmp_path / "stopped", CPU).run(until=5)
    resumed = Fit(small_recipe, DATA, tmp_path / "stopped", CPU)
    assert resumed.step == 5
    resumed.run(until=12)
    for name, weights in straight.model.state_dict().items():
        assert torch.equal(weights, resumed.model.state_dict()[name]), name


def test_training_reduces_the_error(small_recipe: Recipe, tmp_path: Path) -> None:
    Fit(small_recipe, DATA, tmp_path, CPU).run(until=1)
    first = json.loads((tmp_path / LOG_FILE).read_text().splitlines()[0])["error_m"]
    fit = Fit(small_recipe, DATA, tmp_path, CPU)
    fit.run()
    last = [float(fit._advance(fit.model)) for _ in range(5)]
    assert sum(last) / 5 < 0.95 * first


def test_a_folder_of_another_recipe_is_refused_and_kept(small_recipe: Recipe, tmp_path: Path) -> None:
    Fit(small_recipe, DATA, tmp_path, CPU).run(until=1)
    before = (tmp_path / CHECKPOINT_FILE).read_bytes()
    with pytest.raises(RecipeChanged):
        Fit(small_recipe.model_copy(update={"seed": 8}), DATA, tmp_path, CPU)
    assert (tmp_path / CHECKPOINT_FILE).read_bytes() == before


def test_cosine_warms_up_and_ends_at_nothing(small_recipe: Recipe) -> None:
    settings = small_recipe.optimiser
    rates = [learning_rate(settings, step) for step in range(settings.steps)]
    assert rates[0] == pytest.approx(settings.learning_rate / settings.warmup_steps)
    assert max(rates) == pytest.approx(settings.learning_rate)
    assert rates[-1] < 0.01 * settings.learning_rate


def test_the_papers_schedule_drops_to_a_fifth_every_fifty_thousand_steps_after_a_hundred_thousand(
    small_recipe: Recipe,
) -> None:
    paper = small_recipe.optimiser.model_copy(
        update={"schedule": "step", "steps": 300_000, "warmup_steps": 0, "learning_rate": 1e-4}
    )
    expected = {0: 1e-4, 99_999: 1e-4, 100_000: 2e-5, 149_999: 2e-5, 150_000: 4e-6, 299_999: 1.6e-7}
    for step, rate in expected.items():
        assert learning_rate(paper, step) == pytest.approx(rate), step


def test_every_committed_recipe_loads() -> None:
    recipes = list((Path(__file__).parents[3] / "models" / "recipes").glob("*.yaml"))
    assert recipes
    for path in recipes:
        recipe = load_recipe(path)
        held_out = {city.split(":")[0] for city in recipe.cells.test}
        seen = {city.split(":")[0] for city in recipe.cells.train + recipe.cells.validation}
        assert not held_out & seen, path
        assert not set(recipe.cells.train) & set(recipe.cells.validation), path


def test_two_processes_under_torchrun_keep_one_model(small_recipe: Recipe, tmp_path: Path) -> None:
    recipe = small_recipe.model_copy(update={"optimiser": small_recipe.optimiser.model_copy(update={"steps": 1000})})
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
    alone = Fit(recipe, DATA, tmp_path / "alone", CPU)
    alone.run(until=4)
    # Two ranks average the gradients of different batches: the same start, another path.
    assert any(not torch.equal(w, state["model"][n]) for n, w in alone.model.state_dict().items())
    assert len((run / LOG_FILE).read_text().splitlines()) == 1


def test_the_last_steps_are_averaged_into_what_a_run_delivers(small_recipe: Recipe, tmp_path: Path) -> None:
    fit = Fit(small_recipe, DATA, tmp_path, CPU)
    fit.run(until=10)
    delivered, last = load_model(tmp_path, small_recipe).state_dict(), fit.model.state_dict()
    assert any((delivered[name] - last[name]).abs().max() > 1e-5 for name in last)
    none = small_recipe.optimiser.model_copy(update={"average": 0.0})
    unaveraged = small_recipe.model_copy(update={"optimiser": none})
    fit = Fit(unaveraged, DATA, tmp_path / "none", CPU)
    fit.run(until=10)
    for name, weights in load_model(tmp_path / "none", unaveraged).state_dict().items():
        torch.testing.assert_close(weights, fit.model.state_dict()[name])


def test_a_pupil_follows_its_teacher_rather_than_the_truth(small_recipe: Recipe, tmp_path: Path) -> None:
    class East:
        """Says that everybody is 100 m east of the first reference."""

        def positions(self, csi_known, positions_known, csi, coarse, accuracy) -> torch.Tensor:
            return positions_known[:, :1].expand(-1, csi.shape[1], -1) + torch.tensor([100.0, 0.0])

    perfect = small_recipe.model_copy(
        update={"teacher": TeacherSettings(artifact="models/artifacts/mateformer", weight=1.0)}
    )
    fit = Fit(small_recipe, DATA, tmp_path, CPU)
    fit.recipe, fit.teacher = perfect, East()
    errors = [float(fit._advance(fit.model)) for _ in range(60)]
    assert sum(errors[-5:]) > 1.5 * sum(errors[:5])


def test_a_run_goes_on_from_an_artifacts_weights_with_all_that_is_new_silent(
    small_recipe: Recipe, tmp_path: Path
) -> None:
    old = Fit(small_recipe, DATA, tmp_path / "old", CPU)
    save_file(old.model.state_dict(), tmp_path / "weights.safetensors")
    more = {
        "start": str(tmp_path / "weights.safetensors"),
        "model": {**small_recipe.model, "aligned": True, "coarse": True},
    }
    new = Fit(small_recipe.model_copy(update=more), DATA, tmp_path / "new", CPU)
    generator = torch.Generator().manual_seed(1)
    known, csi = torch.randn((2, 9, 8, 8, 2), generator=generator), torch.randn((2, 3, 8, 8, 2), generator=generator)
    positions, coarse = (torch.randn((2, n, 2), generator=generator) for n in (9, 3))
    inputs = known, positions, csi, coarse, torch.ones(2, 3)
    with torch.inference_mode():
        torch.testing.assert_close(new.model(*inputs), old.model(*inputs))
    assert sum(p.numel() for p in new.model.parameters()) > sum(p.numel() for p in old.model.parameters())


def test_how_the_service_retrieves_is_settled_after_training(small_recipe: Recipe) -> None:
    retrieval = small_recipe.retrieval.model_copy(update={"passes": 1})
    assert small_recipe.model_copy(update={"retrieval": retrieval}).digest == small_recipe.digest


def test_a_relative_loss_gives_every_neighbourhood_the_same_say(small_recipe: Recipe) -> None:
    relative = small_recipe.optimiser.model_copy(update={"loss": "relative"})
    estimates = torch.tensor([[[3.0, 4.0]] * 5, [[30.0, 40.0]] * 5], requires_grad=True)
    loss, error = loss_of(relative, estimates, torch.zeros(2, 5, 2))
    loss.backward()
    near, far = (estimates.grad.flatten(1) * estimates.detach().flatten(1)).sum(1)
    assert float(near) == pytest.approx(float(far), rel=0.02)
    assert float(error) == pytest.approx(27.5)
