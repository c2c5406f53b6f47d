"""Errors of test trajectories per band: overall, in and out of line of sight, at seen and at unseen points.

Errors are squared distances in m², over both axes together. Their mean is twice the mean squared error of a coordinate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.scadf_moe.data import SPLIT_SEED, Corpus, observe_path_features
from models.scadf_moe.learner import split_trajectories
from models.scadf_moe.recipe import ScadfMoERecipe, TrainingKind

TRAJECTORIES_AT_ONCE = 128


@dataclass(frozen=True)
class TrajectoryErrors:
    """Errors of one band's test trajectories. The centroid's error is that of the model's own centroid estimate."""

    squared: NDArray[np.float32]  # [trajectories, vertices] m²
    centroid: NDArray[np.float32]  # [pieces] m²
    line_of_sight: NDArray[np.bool_]  # [trajectories, vertices]
    unseen: NDArray[np.bool_]  # [trajectories, vertices] held out of training


def evaluate_trajectories(
    model: nn.Module, recipe: ScadfMoERecipe, corpus: Corpus, device: torch.device
) -> dict[float, TrajectoryErrors]:
    """Errors by test band in hertz. A model with fewer vertices locates a trajectory in pieces."""
    return {
        band: _measure_band(
            corpus, corpus.bands.index(band), recipe.path_features, model.config.vertices, model.to(device), device
        )
        for band in recipe.test_bands
    }


def evaluate_geometry(recipe: ScadfMoERecipe, corpus: Corpus) -> dict[float, TrajectoryErrors]:
    """Errors of the path features without a model: the point at the path's range in the direction of its AoD.

    The user's height is taken as known. With exact features in line of sight, this is the position itself.
    """
    below = corpus.layout.below[corpus.tested]
    return {
        band: _compare(
            corpus, index, _positions_from_features(_draw_path_features(corpus, index, recipe.path_features), below)
        )
        for band in recipe.test_bands
        for index in [corpus.bands.index(band)]
    }


def evaluate_oracle_centroid(recipe: ScadfMoERecipe, corpus: Corpus) -> dict[float, TrajectoryErrors]:
    """Errors of a locator that knows the true centroid of each trajectory and answers it for all of its points.

    They are the scatter of points around their centroid. A model with one answer for all points is off by this much at
    least.
    """
    vertices = corpus.tested.shape[1]
    centroids = corpus.layout.positions[corpus.tested].mean(axis=1, keepdims=True)
    answers = centroids.repeat(vertices + 1, axis=1)
    return {band: _compare(corpus, corpus.bands.index(band), answers) for band in recipe.test_bands}


def summarise_trajectories(bands: dict[float, TrajectoryErrors]) -> dict[str, dict[str, float]]:
    """JSON-ready mean squared errors in m² of ``all`` bands together and of each band, named ``2.6 GHz`` and so on."""
    named = {"all": list(bands.values())} | {name_band(band): [errors] for band, errors in bands.items()}
    return {name: _summary(errors) for name, errors in named.items()}


def name_band(band: float) -> str:
    return f"{band / 1e9:g} GHz"


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


def _draw_path_features(corpus: Corpus, band: int, kind: TrainingKind) -> NDArray[np.float64]:
    """Path features of the test trajectories [trajectories, vertices, 4]. All models get the same errors."""
    rng = np.random.default_rng([SPLIT_SEED, band])
    return observe_path_features(corpus.layout.path_features[band, corpus.tested], kind, rng)


def _measure_band(
    corpus: Corpus, band: int, kind: TrainingKind, vertices: int, model: nn.Module, device: torch.device
) -> TrajectoryErrors:
    given = torch.from_numpy(_draw_path_features(corpus, band, kind).astype(np.float32))
    answers: list[Tensor] = []
    with torch.inference_mode():
        for first in range(0, len(corpus.tested), TRAJECTORIES_AT_ONCE):
            rows = slice(first, first + TRAJECTORIES_AT_ONCE)
            csi = torch.from_numpy(corpus.layout.csi[band, corpus.tested[rows]])
            features = given[rows].reshape(-1, vertices, 4)
            answers.append(model.eval()(split_trajectories(csi, vertices).to(device), features.to(device)).cpu())
    return _compare(corpus, band, torch.cat(answers).numpy())


def _compare(corpus: Corpus, band: int, answers: NDArray[np.floating]) -> TrajectoryErrors:
    """Compares answers [pieces, vertices + 1, 2] with the truth."""
    truth = corpus.layout.positions[corpus.tested].reshape(len(answers), -1, 2)
    off = answers - np.concatenate([truth, truth.mean(axis=1, keepdims=True)], axis=1)
    squared = np.square(off).sum(axis=-1).astype(np.float32)
    return TrajectoryErrors(
        squared=squared[:, :-1].reshape(corpus.tested.shape),
        centroid=squared[:, -1],
        line_of_sight=corpus.layout.line_of_sight[band, corpus.tested],
        unseen=corpus.held_out[corpus.tested],
    )


def _positions_from_features(features: NDArray[np.float64], below: NDArray[np.float32]) -> NDArray[np.float64]:
    """Positions from path features [trajectories, vertices, 4] and their mean, [trajectories, vertices + 1, 2]."""
    level = np.sqrt(np.maximum(features[..., 2] ** 2 - below.astype(np.float64) ** 2, 0.0))
    vertices = level[..., None] * np.stack([np.cos(features[..., 0]), np.sin(features[..., 0])], axis=-1)
    return np.concatenate([vertices, vertices.mean(axis=1, keepdims=True)], axis=1)
