import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.families import find_yaml
from models.pipeline.learner import CHECKPOINT_FILE, LOG_FILE, RecipeChanged
from models.scadf_moe.data import Corpus, build_corpus
from models.scadf_moe.learner import ScadfMoELearner, load_model
from models.scadf_moe.recipe import ScadfMoERecipe

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def corpus(scadf_moe_recipe: ScadfMoERecipe, bands: Path) -> Corpus:
    return build_corpus(scadf_moe_recipe, bands)


def with_path_features(recipe: ScadfMoERecipe, kind: str) -> ScadfMoERecipe:
    return recipe.model_copy(update={"path_features": kind})


def test_a_stopped_and_resumed_run_equals_one_never_stopped(scadf_moe_recipe, corpus, tmp_path: Path) -> None:
    recipe = with_path_features(scadf_moe_recipe, "measured")  # which draws the most
    straight = ScadfMoELearner(recipe, corpus, tmp_path / "straight", CPU)
    straight.run(until=12)
    ScadfMoELearner(recipe, corpus, tmp_path / "stopped", CPU).run(until=5)
    resumed = ScadfMoELearner(recipe, corpus, tmp_path / "stopped", CPU)
    assert resumed.step == 5
    resumed.run(until=12)
    for name, weights in straight.model.state_dict().items():
        assert torch.equal(weights, resumed.model.state_dict()[name]), name
    delivered = load_model(tmp_path / "stopped", recipe).state_dict()
    assert all(torch.equal(weights, delivered[name]) for name, weights in straight.model.state_dict().items())


def test_the_log_of_a_killed_run_has_each_step_once(scadf_moe_recipe, corpus, tmp_path: Path) -> None:
    ScadfMoELearner(scadf_moe_recipe, corpus, tmp_path, CPU).run(until=2)
    killed = (tmp_path / CHECKPOINT_FILE).read_bytes()
    ScadfMoELearner(scadf_moe_recipe, corpus, tmp_path, CPU).run(until=4)
    (tmp_path / CHECKPOINT_FILE).write_bytes(killed)
    with (tmp_path / LOG_FILE).open("a") as log:
        log.write('{"step": 5, "mse')
    ScadfMoELearner(scadf_moe_recipe, corpus, tmp_path, CPU).run(until=6)
    assert [json.loads(line)["step"] for line in (tmp_path / LOG_FILE).read_text().splitlines()] == [2, 6]
    (tmp_path / CHECKPOINT_FILE).unlink()
    ScadfMoELearner(scadf_moe_recipe, corpus, tmp_path, CPU).run(until=3)
    assert [json.loads(line)["step"] for line in (tmp_path / LOG_FILE).read_text().splitlines()] == [3]


@pytest.mark.parametrize(
    ("fusion", "readout"),
    [("concat", "own"), ("scadf-moe", "own"), ("scadf-moe", "pooled"), ("soft-moe", "numbers")],
)
def test_training_reduces_the_error(scadf_moe_recipe, corpus, tmp_path: Path, fusion: str, readout: str) -> None:
    recipe = scadf_moe_recipe.model_copy(update={"fusion": fusion, "readout": readout})
    fit = ScadfMoELearner(recipe, corpus, tmp_path, CPU)
    fit.run(until=1)
    fit.run()
    first, *_, last = [json.loads(line) for line in (tmp_path / LOG_FILE).read_text().splitlines()]
    assert last["step"] == 60
    assert last["mse_m2"] < 0.5 * first["mse_m2"]
    assert (last["overlap"] < 0) == (fusion == "scadf-moe")


def test_the_mmd_term_moves_the_routers_further_apart(scadf_moe_recipe, corpus, tmp_path: Path) -> None:
    overlaps = []
    for diversity in (0.0, 100.0):
        recipe = scadf_moe_recipe.model_copy(update={"diversity": diversity})
        fit = ScadfMoELearner(recipe, corpus, tmp_path / str(diversity), CPU)
        fit.run(until=40)
        overlaps.append(float(fit.advance(fit.model)["overlap"]))
    assert overlaps[1] < overlaps[0] < 0


def test_the_recipe_chooses_the_reading_of_the_diversity_term(scadf_moe_recipe, corpus, tmp_path: Path) -> None:
    overlaps = {}
    for kind in ("written", "paired"):
        recipe = scadf_moe_recipe.model_copy(update={"diversity_kind": kind})
        fit = ScadfMoELearner(recipe, corpus, tmp_path / kind, CPU)
        overlaps[kind] = float(fit.advance(fit.model)["overlap"])
    assert overlaps["paired"] < overlaps["written"] < 0  # the same samples: `paired` counts all that differs


def test_a_model_starts_in_the_midst_of_the_training_points(scadf_moe_recipe, corpus, tmp_path: Path) -> None:
    head = ScadfMoELearner(scadf_moe_recipe, corpus, tmp_path, CPU).model.head
    seen = corpus.layout.positions[~corpus.held_out]
    np.testing.assert_allclose(head.centre, seen.mean(axis=0), rtol=1e-4)
    assert 5 < float(head.spread) < 30


def test_without_spatial_context_every_point_is_a_sample(scadf_moe_recipe, corpus, tmp_path: Path) -> None:
    alone = scadf_moe_recipe.model_copy(update={"model": {**scadf_moe_recipe.model, "vertices": 1}})
    together = ScadfMoELearner(scadf_moe_recipe, corpus, tmp_path / "together", CPU)
    apart = ScadfMoELearner(alone, corpus, tmp_path / "apart", CPU)
    csi, features, truth = apart.draw_batch(np.random.default_rng(1))
    assert (csi.shape, features.shape, truth.shape) == ((24, 1, 4, 16, 2), (24, 1, 4), (24, 2, 2))
    torch.testing.assert_close(truth[:, 0], truth[:, 1])
    for part, whole in zip((csi, features), together.draw_batch(np.random.default_rng(1)), strict=False):
        torch.testing.assert_close(part.flatten(0, 1), whole.flatten(0, 1))


def test_a_random_phase_rotates_whole_snapshots(scadf_moe_recipe, corpus, tmp_path: Path) -> None:
    steady = scadf_moe_recipe.model_copy(update={"phase": False})
    both = [
        torch.view_as_complex(
            ScadfMoELearner(recipe, corpus, tmp_path / str(n), CPU).draw_batch(np.random.default_rng(1))[0]
        )
        for n, recipe in enumerate((scadf_moe_recipe, steady))
    ]
    ratio = both[0] / both[1]
    torch.testing.assert_close(ratio, ratio[:, :, :1, :1].expand_as(ratio), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(ratio.abs(), torch.ones_like(ratio.abs()), rtol=1e-3, atol=1e-3)
    assert ratio[..., 0, 0].mean().abs() < 0.6


def test_a_folder_of_another_recipe_is_refused(scadf_moe_recipe, corpus, tmp_path: Path) -> None:
    ScadfMoELearner(scadf_moe_recipe, corpus, tmp_path, CPU).run(until=1)
    with pytest.raises(RecipeChanged):
        ScadfMoELearner(with_path_features(scadf_moe_recipe, "measured"), corpus, tmp_path, CPU)


def test_the_committed_recipe_loads() -> None:
    (path,) = (path for path in find_yaml("scadf_moe", "recipes") if path.stem == "scadf-moe")
    recipe = ScadfMoERecipe.load(path)
    assert (recipe.batch, recipe.diversity, recipe.sampling.length, recipe.sampling.radius) == (64, 0.1, 5, 2.0)
    assert (recipe.radio.subcarriers, recipe.radio.bandwidth) == (64, 50e6)
    assert recipe.config().vertices == 5
