"""Trains SCADF-MoE, or one of the fusions that it is compared with, on trajectories."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.errors import TrainerError
from models.pipeline.learner import Learner, load_averaged
from models.pipeline.loss import position_loss
from models.scadf_moe.data import Corpus, observe_path_features
from models.scadf_moe.fusion_rivals import FUSIONS
from models.scadf_moe.network import ScadfMoE
from models.scadf_moe.recipe import ScadfMoERecipe
from models.scadf_moe.routing_diversity import routing_overlap


class ScadfMoELearner(Learner):
    """Raises `RecipeChanged`, and `TrainerError` under ``torchrun``: this family trains in one process."""

    recipe: ScadfMoERecipe

    def __init__(self, recipe: ScadfMoERecipe, corpus: Corpus, folder: Path, device: torch.device) -> None:
        def build_model() -> nn.Module:
            model = FUSIONS[recipe.fusion](recipe.config())
            place_answers(model, corpus)
            return model

        super().__init__(recipe.for_trunk(), build_model, folder, device)
        if self.world > 1:
            raise TrainerError("scadf-moe trains in one process: start it without torchrun")
        self.corpus = corpus
        self.csi = torch.from_numpy(corpus.layout.csi[: len(recipe.train_bands)]).to(device)

    def compute_loss(self, forward: Callable[..., Any], rng: np.random.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The recipe's loss, the mean squared error ``mse_m2`` of the vertices, and the routers' ``overlap``."""
        recipe = self.recipe
        csi, path_features, truth = self.draw_batch(rng)
        overlap = torch.zeros((), device=self.device)
        if isinstance(self.model, ScadfMoE):
            located = self.model.locate(csi, path_features)
            positions, overlap = located.positions, routing_overlap(located.routing, recipe.diversity_kind)
        else:
            positions = forward(csi, path_features)
        loss = position_loss(recipe.optimiser.loss, positions, truth) + recipe.diversity * overlap
        squared = (positions - truth)[:, :-1].square().sum(-1).mean()
        return loss, {"mse_m2": squared, "overlap": overlap}

    def draw_batch(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """csi [b, v, a, s, 2], path features [b, v, 4], positions of the vertices and their centroid [b, v + 1, 2]."""
        layout, recipe, vertices = self.corpus.layout, self.recipe, self.model.config.vertices
        users = self.corpus.training.draw(recipe.batch, rng)  # [b, length]
        band = rng.integers(len(recipe.train_bands), size=(recipe.batch, 1))
        path_features = observe_path_features(layout.path_features[band, users], recipe.path_features, rng)
        csi = self.csi[torch.from_numpy(band), torch.from_numpy(users)]
        if recipe.phase:
            phase = torch.from_numpy(rng.uniform(-math.pi, math.pi, users.shape).astype(np.float32)).to(self.device)
            csi = csi * torch.polar(torch.ones_like(phase), phase)[..., None, None]
        truth = torch.from_numpy(layout.positions[users]).reshape(-1, vertices, 2)
        return (
            split_trajectories(csi, vertices),
            torch.from_numpy(path_features.astype(np.float32)).reshape(-1, vertices, 4).to(self.device),
            torch.cat([truth, truth.mean(1, keepdim=True)], dim=1).to(self.device),
        )


def place_answers(model: nn.Module, corpus: Corpus) -> None:
    """Puts the initial answers among the training points."""
    seen = torch.from_numpy(corpus.layout.positions[~corpus.held_out])
    model.head.centre.copy_(seen.mean(0))
    model.head.spread.copy_(seen.std(0).mean())


def split_trajectories(csi: Tensor, vertices: int) -> Tensor:
    """Complex trajectories [b, length, a, s] as real pairs in pieces of ``vertices``, [pieces, vertices, a, s, 2]."""
    return torch.view_as_real(csi.resolve_conj()).flatten(0, 1).unflatten(0, (-1, vertices))


def load_model(folder: Path, recipe: ScadfMoERecipe) -> nn.Module:
    """The run's averaged weights, on the CPU. Raises what `models.pipeline.learner.load_checkpoint` raises."""
    return load_averaged(FUSIONS[recipe.fusion](recipe.config()), folder, recipe.for_trunk()).eval()
