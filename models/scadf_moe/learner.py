"""Trains SCADF-MoE or a rival on trajectories, and goes on exactly where it was stopped."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.mateformer.learner import loss_of
from models.pipeline.learner import LOG_FILE, Learner, averaged_model, learning_rate
from models.scadf_moe.data import TrajectoryCorpus, as_seen
from models.scadf_moe.fusion_rivals import FUSIONS
from models.scadf_moe.network import ScadfMoE
from models.scadf_moe.recipe import TrajectoryRecipe
from models.scadf_moe.routing_diversity import routing_overlap


class TrajectoryFit:
    """One training run in one folder. Raises `RecipeChanged` where the folder belongs to another recipe."""

    def __init__(self, recipe: TrajectoryRecipe, corpus: TrajectoryCorpus, folder: Path, device: torch.device) -> None:
        self.recipe, self.corpus, self.folder, self.device = recipe, corpus, folder, device
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(recipe.seed)
        self.model = FUSIONS[recipe.fusion](recipe.config())
        seen = torch.from_numpy(corpus.layout.positions[~corpus.held_out])
        self.model.head.centre.copy_(seen.mean(0))
        self.model.head.spread.copy_(seen.std(0).mean())
        self.learner = Learner(self.model.to(device).train(), recipe.optimiser)
        self.csi = torch.from_numpy(corpus.layout.csi[: len(recipe.train_bands)]).to(device)
        self.learner.restore(folder, recipe.digest, device)

    def run(self, until: int | None = None) -> None:
        """Trains to step ``until``, the recipe's end by default."""
        until = self.recipe.optimiser.steps if until is None else until
        self.learner.train(until, self._advance, self._log, self.save)

    def _advance(self) -> Tensor:
        """The step's mean squared error of the vertices (m²) and its routers' overlap, [2]."""
        recipe = self.recipe
        # All randomness of a step follows from its number, so that a resumed run repeats the one never stopped.
        csi, cues, truth = self._batch(np.random.default_rng([recipe.seed, self.learner.step]))
        overlap = torch.zeros((), device=self.device)
        if isinstance(self.model, ScadfMoE):
            positions, routing = self.model.located(csi, cues)
            overlap = routing_overlap(routing)
        else:
            positions = self.model(csi, cues)
        self.learner.descend(loss_of(recipe.optimiser, positions, truth)[0] + recipe.diversity * overlap)
        squared = (positions - truth)[:, :-1].square().sum(-1).mean()
        return torch.stack([squared, overlap]).detach()

    def _batch(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """csi [b, v, a, s, 2], cues [b, v, 4], positions of all vertices and their centroid [b, v + 1, 2]."""
        layout, recipe, vertices = self.corpus.layout, self.recipe, self.model.config.vertices
        users = self.corpus.training.draw(recipe.batch, rng)  # [b, length]
        band = rng.integers(len(recipe.train_bands), size=(recipe.batch, 1))
        cues = as_seen(layout.cues[band, users], recipe.cues, rng)
        csi = self.csi[torch.from_numpy(band), torch.from_numpy(users)]
        if recipe.phase:
            phase = torch.from_numpy(rng.uniform(-math.pi, math.pi, users.shape).astype(np.float32)).to(self.device)
            csi = csi * torch.polar(torch.ones_like(phase), phase)[..., None, None]
        truth = torch.from_numpy(layout.positions[users]).reshape(-1, vertices, 2)
        return (
            in_pieces(csi, vertices),
            torch.from_numpy(cues.astype(np.float32)).reshape(-1, vertices, 4).to(self.device),
            torch.cat([truth, truth.mean(1, keepdim=True)], dim=1).to(self.device),
        )

    def save(self) -> None:
        self.learner.save(self.folder, self.recipe.digest)

    def _log(self, seen: Tensor, rate: float) -> str:
        squared, overlap = seen.tolist()
        line = {
            "step": self.learner.step,
            "mse_m2": round(squared, 4),
            "overlap": round(overlap, 4),
            "learning_rate": learning_rate(self.recipe.optimiser, self.learner.step - 1),
            "steps_per_s": round(rate, 2),
        }
        with (self.folder / LOG_FILE).open("a") as log:
            log.write(json.dumps(line) + "\n")
        return f"mse={squared:.3f} m²"


def in_pieces(csi: Tensor, vertices: int) -> Tensor:
    """Complex trajectories [b, length, a, s] as real pairs of ``vertices`` each, [pieces, vertices, a, s, 2]."""
    return torch.view_as_real(csi.resolve_conj()).flatten(0, 1).unflatten(0, (-1, vertices))


def load_trajectory_model(folder: Path, recipe: TrajectoryRecipe) -> nn.Module:
    """The run's averaged weights, on the CPU; raises what `load_checkpoint` raises."""
    return averaged_model(FUSIONS[recipe.fusion](recipe.config()), folder, recipe.digest).eval()
