"""Trains how sure a SCADF-MoE is, the second stage of its recipe, on held-out points of the frozen model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.pipeline.export import RECIPE_FILE, WEIGHTS_FILE
from models.pipeline.learner import LOG_FILE, RecipeChanged
from models.scadf_moe.certainty import CertainScadfMoE, Certainty, surprise
from models.scadf_moe.data import Corpus
from models.scadf_moe.held_out import SERVED, Drawn, divide_held_out, draw_unseen
from models.scadf_moe.learner import place_answers, split_trajectories
from models.scadf_moe.network import ScadfMoE
from models.scadf_moe.recipe import CertaintyTraining, ScadfMoERecipe

CERTAINTY_FILE = "certainty.safetensors"
BATCH = 512  # trajectories
AT_ONCE = 64


class _Seen(NamedTuple):
    """What the frozen model makes of trajectories."""

    embeddings: Tensor  # [n, m, d]
    errors: Tensor  # [n, m, 2] metres


def fit_certainty(recipe: ScadfMoERecipe, trunk: ScadfMoE, corpus: Corpus) -> CertainScadfMoE:
    """The model with a trained certainty. ``corpus`` as `models.scadf_moe.held_out.load_served` gives it."""
    settings = recipe.certainty
    assert settings is not None
    users = divide_held_out(corpus)["learning"]
    drawn = [
        one for kind in SERVED for one in draw_unseen(recipe, corpus, kind, users, settings.trajectories, "learning")
    ]
    seen = _Seen(*map(torch.cat, zip(*(_look(trunk, one) for one in drawn), strict=True)))
    return CertainScadfMoE(trunk, train_certainty(settings, seen.embeddings, seen.errors, recipe.seed)).eval()


def train_certainty(settings: CertaintyTraining, embeddings: Tensor, errors: Tensor, seed: int) -> Certainty:
    """A certainty for embeddings [n, m, d] whose positions have errors [n, m, 2] in metres."""
    torch.manual_seed(seed)
    certainty = Certainty(embeddings.shape[-1], settings.hidden)
    optimiser = torch.optim.AdamW(certainty.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    for _ in range(settings.steps):
        rows = torch.randint(len(embeddings), (BATCH,))
        loss = surprise(errors[rows], certainty.spread(embeddings[rows])).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return certainty.eval()


def _look(trunk: ScadfMoE, drawn: Drawn) -> _Seen:
    csi = split_trajectories(torch.from_numpy(drawn.csi), trunk.config.vertices)
    features, truth = torch.from_numpy(drawn.path_features), torch.from_numpy(drawn.truth)
    parts = []
    with torch.no_grad():
        for rows in torch.arange(len(csi)).split(AT_ONCE):
            located = trunk.locate(csi[rows], features[rows])
            parts.append(_Seen(located.embeddings, located.positions - truth[rows]))
    return _Seen(*map(torch.cat, zip(*parts, strict=True)))


def save_certain(model: CertainScadfMoE, folder: Path, recipe: ScadfMoERecipe) -> None:
    save_file(model.state_dict(), folder / CERTAINTY_FILE, {"recipe": recipe.digest})


def load_certain(folder: Path, recipe: ScadfMoERecipe) -> CertainScadfMoE:
    """The model of a run whose second stage is done. Raises `FileNotFoundError` and `RecipeChanged`."""
    assert recipe.certainty is not None
    path = folder / CERTAINTY_FILE
    with safe_open(path, "pt") as file:
        if file.metadata()["recipe"] != recipe.digest:
            raise RecipeChanged(f"{path} belongs to another recipe; choose another run folder")
    config = recipe.config()
    model = CertainScadfMoE(ScadfMoE(config), Certainty(config.width, recipe.certainty.hidden))
    model.load_state_dict(load_file(path))
    return model.eval()


def take_trunk(artifact: Path, recipe: ScadfMoERecipe, corpus: Corpus, run: Path) -> ScadfMoE:
    """The first stage of an artifact, whose training log is copied to the run. Raises `RecipeChanged`."""
    if ScadfMoERecipe.load(artifact / RECIPE_FILE).for_trunk().digest != recipe.for_trunk().digest:
        raise RecipeChanged(f"{artifact} was trained by another recipe")
    weights = load_file(artifact / WEIGHTS_FILE)
    named = {name.removeprefix("trunk."): one for name, one in weights.items() if not name.startswith("certainty.")}
    trunk = ScadfMoE(recipe.config())
    trunk.load_state_dict(named)
    place_answers(trunk, corpus)  # the file has half precision, too coarse for metres
    run.mkdir(parents=True, exist_ok=True)
    shutil.copy(artifact / LOG_FILE, run)
    return trunk.eval()
