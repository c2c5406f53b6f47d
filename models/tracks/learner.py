"""Trains a track network on walks that a Mateformer has located."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.artifact.smoother import Motion
from models.mateformer.learner import negative_log_likelihood
from models.mateformer.network import Estimates
from models.pipeline.learner import Learner
from models.pipeline.loss import mean_distance, position_loss
from models.radio.walks import SNAPSHOTS
from models.tracks.evaluation import describe_inputs
from models.tracks.network import TrackFormer
from models.tracks.recipe import TracksRecipe
from models.tracks.walked import Walked

SCORE = 0.3  # weight of the likelihood in the loss, as in Mateformer's recipe
CONTIGUOUS = 0.7  # of the tracks; the others lack snapshots in between


class TrackLearner(Learner):
    """Raises `RecipeChanged`."""

    recipe: TracksRecipe

    def __init__(
        self, recipe: TracksRecipe, walked: Walked, motion: Motion, folder: Path, device: torch.device
    ) -> None:
        super().__init__(recipe, lambda: TrackFormer(recipe.config()), folder, device)
        self._walked, self._motion = walked, motion

    def compute_loss(
        self, forward: Callable[..., Estimates], rng: np.random.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The recipe's loss, and the mean errors in metres of the network and of the smoother that it corrects."""
        rows, snapshots = draw_tracks(len(self._walked), self.recipe.tracks, rng)
        tracks = self._walked.take(rows, snapshots)
        inputs = describe_inputs(tracks, snapshots.astype(np.float32), self._motion)
        streams, numbers, smoothed, sigma, truth = (
            one.to(self.device) for one in (*inputs, torch.from_numpy(tracks.truth))
        )
        estimates = forward(streams, numbers, smoothed, sigma)
        nll = negative_log_likelihood(estimates, truth).mean()
        loss = position_loss(self.recipe.optimiser.loss, estimates.position, truth) + SCORE * nll
        errors = {"error_m": estimates.position, "smoother_m": smoothed}
        return loss, {name: mean_distance(at, truth).mean() for name, at in errors.items()} | {"nll": nll}


def draw_tracks(walks: int, tracks: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows of walks int64 [tracks], and for each as many snapshots in ascending order: int64 [tracks, t]."""
    t = int(rng.integers(1, SNAPSHOTS + 1))
    first = rng.integers(0, SNAPSHOTS - t + 1, (tracks, 1))
    contiguous = first + np.arange(t)
    thinned = np.sort(rng.random((tracks, SNAPSHOTS)).argsort(axis=1)[:, :t], axis=1)
    snapshots = np.where(rng.random((tracks, 1)) < CONTIGUOUS, contiguous, thinned)
    return rng.integers(0, walks, tracks), snapshots.astype(np.int64)
