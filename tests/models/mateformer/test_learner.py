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
from models.mateformer.learner import MateformerLearner, load_model
from models.mateformer.recipe import MateformerRecipe
from models.mateformer.recipe import Teacher as TeacherSettings
from models.pipeline.learner import CHECKPOINT_FILE, LOG_FILE, RecipeChanged

CPU = torch.device("cpu")
DATA = Path(__file__).parents[1] / "data"


def test_a_stopped_and_resumed_run_equals_one_never_stopped(
    mateformer_recipe: MateformerRecipe, tmp_path: Path
) -> None:
    straight = MateformerLearner(mateformer_recipe, DATA, tmp_path / "straight", CPU)
    straight.run(until=12)
    MateformerLearner(mateformer_recipe, DATA, tmp_path / "stopped", CPU).run(until=5)
    resumed = MateformerLearner(mateformer_recipe, DATA, tmp_path / "stopped", CPU)
    assert resumed.step == 5
    resumed.run(until=12)
    for name, weights in straight.model.state_dict().items():
        assert torch.equal(weights, resumed.model.state_dict()[name]), name


def test_training_reduces_the_error(mateformer_recipe: MateformerRecipe, tmp_path: Path) -> None:
    MateformerLearner(mateformer_recipe, DATA, tmp_path, CPU).run(until=1)
    first = json.loads((tmp_path / LOG_FILE).read_text().splitlines()[0])["error_m"]
    fit = MateformerLearner(mateformer_recipe, DATA, tmp_path, CPU)
    fit.run()
    last = [float(fit.advance(fit.model)["error_m"]) for _ in range(5)]
    assert sum(last) / 5 < 0.95 * first


def test_a_folder_of_another_recipe_is_refused_and_kept(mateformer_recipe: MateformerRecipe, tmp_path: Path) -> None:
    MateformerLearner(mateformer_recipe, DATA, tmp_path, CPU).run(until=1)
    before = (tmp_path / CHECKPOINT_FILE).read_bytes()
    with pytest.raises(RecipeChanged):
        MateformerLearner(mateformer_recipe.model_copy(update={"seed": 8}), DATA, tmp_path, CPU)
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
    alone = MateformerLearner(recipe, DATA, tmp_path / "alone", CPU)
    alone.run(until=4)
    # Two ranks average the gradients of different batches: the same start, another path.
    assert any(not torch.equal(w, state["model"][n]) for n, w in alone.model.state_dict().items())
    assert len((run / LOG_FILE).read_text().splitlines()) == 1


def test_the_last_steps_are_averaged_into_what_a_run_delivers(
    mateformer_recipe: MateformerRecipe, tmp_path: Path
) -> None:
    fit = MateformerLearner(mateformer_recipe, DATA, tmp_path, CPU)
    fit.run(until=10)
    delivered, last = load_model(tmp_path, mateformer_recipe).state_dict(), fit.model.state_dict()
    assert any((delivered[name] - last[name]).abs().max() > 1e-5 for name in last)
    none = mateformer_recipe.optimiser.model_copy(update={"average": 0.0})
    unaveraged = mateformer_recipe.model_copy(update={"optimiser": none})
    fit = MateformerLearner(unaveraged, DATA, tmp_path / "none", CPU)
    fit.run(until=10)
    for name, weights in load_model(tmp_path / "none", unaveraged).state_dict().items():
        torch.testing.assert_close(weights, fit.model.state_dict()[name])


def test_a_model_with_a_teacher_follows_it_rather_than_the_truth(
    mateformer_recipe: MateformerRecipe, tmp_path: Path
) -> None:
    def east(csi_known, positions_known, csi, coarse, accuracy) -> np.ndarray:
        """Says that everybody is 100 m east of the first reference."""
        return np.repeat(positions_known[:, :1], csi.shape[1], axis=1) + np.float32([100.0, 0.0])

    perfect = mateformer_recipe.model_copy(
        update={"teacher": TeacherSettings(artifact="models/artifacts/mateformer", weight=1.0)}
    )
    fit = MateformerLearner(mateformer_recipe, DATA, tmp_path, CPU)
    fit.recipe, fit.teacher = perfect, east
    errors = [float(fit.advance(fit.model)["error_m"]) for _ in range(60)]
    assert sum(errors[-5:]) > 1.5 * sum(errors[:5])


def test_a_run_continues_from_an_artifacts_weights_and_new_inputs_start_without_effect(
    mateformer_recipe: MateformerRecipe, tmp_path: Path
) -> None:
    old = MateformerLearner(mateformer_recipe, DATA, tmp_path / "old", CPU)
    save_file(old.model.state_dict(), tmp_path / "weights.safetensors")
    more = {
        "start": str(tmp_path / "weights.safetensors"),
        "model": {**mateformer_recipe.model, "delay_compensated": True, "coarse": True},
    }
    new = MateformerLearner(mateformer_recipe.model_copy(update=more), DATA, tmp_path / "new", CPU)
    generator = torch.Generator().manual_seed(1)
    known, csi = torch.randn((2, 9, 8, 8, 2), generator=generator), torch.randn((2, 3, 8, 8, 2), generator=generator)
    positions, coarse = (torch.randn((2, n, 2), generator=generator) for n in (9, 3))
    inputs = known, positions, csi, coarse, torch.ones(2, 3)
    with torch.inference_mode():
        torch.testing.assert_close(new.model(*inputs), old.model(*inputs))
    assert sum(p.numel() for p in new.model.parameters()) > sum(p.numel() for p in old.model.parameters())


def test_the_retrieval_settings_do_not_change_the_digest(mateformer_recipe: MateformerRecipe) -> None:
    retrieval = mateformer_recipe.retrieval.model_copy(update={"passes": 1})
    assert mateformer_recipe.model_copy(update={"retrieval": retrieval}).digest == mateformer_recipe.digest
