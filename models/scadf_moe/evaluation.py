"""How far off the vertices of test trajectories are located, a band at a time: overall, in sight or not, seen or not.

Errors are squared distances in square metres: over both axes together, so that their mean is twice the mean squared
error of a coordinate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.scadf_moe.data import SPLIT_SEED, TrajectoryCorpus, as_seen
from models.scadf_moe.learner import in_pieces
from models.scadf_moe.recipe import TrainingCues, TrajectoryRecipe

TRAJECTORIES_AT_ONCE = 128


@dataclass(frozen=True)
class TrajectoryErrors:
    """Of one band's test trajectories; the centroid is the network's own answer for it."""

    squared: NDArray[np.float32]  # [trajectories, vertices] m²
    centroid: NDArray[np.float32]  # [pieces] m²
    line_of_sight: NDArray[np.bool_]  # [trajectories, vertices]
    unseen: NDArray[np.bool_]  # [trajectories, vertices] held out from training


def evaluate_trajectories(
    model: nn.Module, recipe: TrajectoryRecipe, corpus: TrajectoryCorpus, device: torch.device
) -> dict[float, TrajectoryErrors]:
    """By the recipe's test bands, in hertz. A network of fewer vertices locates a trajectory in pieces."""
    return {
        band: _errors(corpus, corpus.bands.index(band), recipe.cues, model.config.vertices, model.to(device), device)
        for band in recipe.test_bands
    }


def evaluate_geometry(recipe: TrajectoryRecipe, corpus: TrajectoryCorpus) -> dict[float, TrajectoryErrors]:
    """What the cues say without any network: as far as the strongest path is long, where it departs to.

    The user's height is taken as known. In line of sight with exact cues that is the position itself.
    """
    below = corpus.layout.below[corpus.tested]
    return {
        band: _compared(corpus, index, _straight(_cues(corpus, index, recipe.cues), below))
        for band in recipe.test_bands
        for index in [corpus.bands.index(band)]
    }


def summarise_trajectories(bands: dict[float, TrajectoryErrors]) -> dict[str, dict[str, float]]:
    """JSON-ready mean squared errors in m², of ``all`` bands together and of each, named ``2.6 GHz`` and the like."""
    named = {"all": list(bands.values())} | {f"{band / 1e9:g} GHz": [errors] for band, errors in bands.items()}
    return {name: _summary(errors) for name, errors in named.items()}


def _summary(errors: list[TrajectoryErrors]) -> dict[str, float]:
    squared, in_sight, unseen = (
        np.concatenate([getattr(one, name).ravel() for one in errors])
        for name in ("squared", "line_of_sight", "unseen")
    )
    parts = {
        "overall": np.ones_like(unseen),
        "los": in_sight,
        "nlos": ~in_sight,
        "unseen": unseen,
        "unseen_nlos": unseen & ~in_sight,
    }
    summary = {name: float(squared[part].mean()) for name, part in parts.items() if part.any()}
    summary["centroid"] = float(np.concatenate([one.centroid for one in errors]).mean())
    summary["median_m"] = float(np.median(np.sqrt(squared)))
    summary["share_nlos"] = float((~in_sight).mean())
    return {name: round(value, 4) for name, value in summary.items()}


def _cues(corpus: TrajectoryCorpus, band: int, kind: TrainingCues) -> NDArray[np.float64]:
    """Those of the test trajectories [trajectories, vertices, 4], the same errors whoever is tested."""
    return as_seen(corpus.layout.cues[band, corpus.tested], kind, np.random.default_rng([SPLIT_SEED, band]))


def _errors(
    corpus: TrajectoryCorpus, band: int, kind: TrainingCues, vertices: int, model: nn.Module, device: torch.device
) -> TrajectoryErrors:
    given = torch.from_numpy(_cues(corpus, band, kind).astype(np.float32))
    answers: list[Tensor] = []
    with torch.inference_mode():
        for first in range(0, len(corpus.tested), TRAJECTORIES_AT_ONCE):
            rows = slice(first, first + TRAJECTORIES_AT_ONCE)
            csi = torch.from_numpy(corpus.layout.csi[band, corpus.tested[rows]])
            cues = given[rows].reshape(-1, vertices, 4)
            answers.append(model.eval()(in_pieces(csi, vertices).to(device), cues.to(device)).cpu())
    return _compared(corpus, band, torch.cat(answers).numpy())


def _compared(corpus: TrajectoryCorpus, band: int, answers: NDArray[np.floating]) -> TrajectoryErrors:
    """Answers [pieces, vertices + 1, 2] against the truth."""
    truth = corpus.layout.positions[corpus.tested].reshape(len(answers), -1, 2)
    off = answers - np.concatenate([truth, truth.mean(axis=1, keepdims=True)], axis=1)
    squared = np.square(off).sum(axis=-1).astype(np.float32)
    return TrajectoryErrors(
        squared=squared[:, :-1].reshape(corpus.tested.shape),
        centroid=squared[:, -1],
        line_of_sight=corpus.layout.line_of_sight[band, corpus.tested],
        unseen=corpus.held_out[corpus.tested],
    )


def _straight(cues: NDArray[np.float64], below: NDArray[np.float32]) -> NDArray[np.float64]:
    """Positions by cues [trajectories, vertices, 4] and their mean, [trajectories, vertices + 1, 2]."""
    level = np.sqrt(np.maximum(cues[..., 2] ** 2 - below.astype(np.float64) ** 2, 0.0))
    vertices = level[..., None] * np.stack([np.cos(cues[..., 0]), np.sin(cues[..., 0])], axis=-1)
    return np.concatenate([vertices, vertices.mean(axis=1, keepdims=True)], axis=1)
