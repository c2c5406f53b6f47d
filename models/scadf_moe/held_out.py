"""Trajectories of which training has seen no point: to test, to learn covariances from, to calibrate and check them.

A model is off by less at points that it was trained on. In service it sees none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from models.scadf_moe.data import SPLIT_SEED, Corpus, build_corpus, observe_path_features
from models.scadf_moe.recipe import PathFeatureKind, ScadfMoERecipe
from models.scadf_moe.sampling import Trajectories

Part = Literal["learning", "calibration", "check"]
PARTS: tuple[Part, ...] = get_args(Part)
FIRST_STREAM = 3  # random streams, apart from those of the split and of the examples
SERVED: tuple[PathFeatureKind, ...] = ("measured", "estimated")  # the sources that a service has path features from


class Drawn(NamedTuple):
    """Trajectories of one band. The first axis is the trajectory."""

    csi: NDArray[np.complex64]  # [b, v, antennas, subcarriers]
    path_features: NDArray[np.float32]  # [b, v, 4]
    truth: NDArray[np.float32]  # [b, v + 1, 2] metres, the centroid last
    line_of_sight: NDArray[np.bool_]  # [b, v]
    users: NDArray[np.int64]  # [b, v]


def load_served(recipe: ScadfMoERecipe, paths: Path) -> Corpus:
    """The training bands with the path features of both sources. Raises what `build_corpus` raises."""
    return build_corpus(recipe.model_copy(update={"path_features": "served", "test_bands": recipe.train_bands}), paths)


def divide_held_out(corpus: Corpus) -> dict[Part, NDArray[np.bool_]]:
    """The held-out users of each part, bool [users]; a random third of them."""
    order = np.random.default_rng(SPLIT_SEED).permutation(np.flatnonzero(corpus.held_out))
    divided = {}
    for name, users in zip(PARTS, np.array_split(order, len(PARTS)), strict=True):
        divided[name] = np.zeros_like(corpus.held_out)
        divided[name][users] = True
    return divided


def draw_tested_unseen(recipe: ScadfMoERecipe, corpus: Corpus) -> Corpus:
    """The corpus with as many other tested trajectories, all of whose points are held out. Raises `NoTrajectories`."""
    sampling, everywhere = recipe.sampling, np.zeros(len(corpus.held_out), np.int64)
    trajectories = Trajectories(corpus.layout.positions, everywhere, corpus.held_out, sampling.length, sampling.radius)
    rng = np.random.default_rng([SPLIT_SEED, FIRST_STREAM + len(PARTS), *recipe.layout.encode()])
    return replace(corpus, tested=trajectories.draw(sampling.tested, rng))


def draw_unseen(
    recipe: ScadfMoERecipe, corpus: Corpus, kind: PathFeatureKind, users: NDArray[np.bool_], count: int, part: Part
) -> Iterator[Drawn]:
    """As many trajectories of these users in each training band, the same in all, with a random phase per snapshot.

    ``corpus`` as `load_served` gives it. Raises `NoTrajectories`.
    """
    sampling, everywhere = recipe.sampling, np.zeros(len(users), np.int64)
    trajectories = Trajectories(corpus.layout.positions, everywhere, users, sampling.length, sampling.radius)
    rng = np.random.default_rng([SPLIT_SEED, FIRST_STREAM + PARTS.index(part), *recipe.layout.encode()])
    drawn = trajectories.draw(count, rng)
    for band in range(len(recipe.train_bands)):
        yield observe(corpus, band, drawn, kind, rng)


def observe(
    corpus: Corpus, band: int, users: NDArray[np.int64], kind: PathFeatureKind, rng: np.random.Generator
) -> Drawn:
    """Trajectories of ``users`` [b, v] in a band, with path features from one source."""
    layout, places = corpus.layout, corpus.layout.positions[users]
    features = layout.path_features[band, users, SERVED.index(kind)]  # exact, and estimated
    phase = np.exp(2j * np.pi * rng.random(users.shape)).astype(np.complex64)
    return Drawn(
        csi=layout.csi[band, users] * phase[..., None, None],
        path_features=observe_path_features(features, kind, rng).astype(np.float32),
        truth=np.concatenate([places, places.mean(axis=1, keepdims=True)], axis=1),
        line_of_sight=layout.line_of_sight[band, users],
        users=users,
    )
