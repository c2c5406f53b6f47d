"""Draws training neighbourhoods with the index that serves them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.mateformer.data import Corpus
from models.pipeline.recipe import Batch


def draw(corpus: Corpus, batch: Batch, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the corpus: known [b, p] and to infer [b, q], p one number of ``batch.known`` for the whole batch.

    Each neighbourhood is what a coarse position near some user fetches: the nearest ``spread * (p + q)`` users, of
    which a random ``p + q`` stay. Who is to be inferred is drawn among those nearest the point, as a user would be, or
    in a share ``batch.stray`` among those farthest from it.
    """
    p, q = int(rng.integers(batch.known[0], batch.known[1] + 1)), batch.to_infer
    known, to_infer = [], []
    for _ in range(batch.neighbourhoods):
        cell = int(rng.integers(len(corpus.indices)))
        index, first = corpus.indices[cell], corpus.first[cell]
        user = first + rng.integers(len(index))
        sigma = np.exp(rng.uniform(*np.log(batch.coarse_sigma)))
        coarse = corpus.positions[user] + rng.normal(0.0, sigma, 2).astype(np.float32)
        reach = min(round((p + q) * rng.uniform(*batch.spread)), len(index))
        nearest, _ = index.nearest(coarse[None], reach)
        kept = nearest[0, np.sort(rng.permutation(reach)[: p + q])]  # nearest first
        if rng.random() < batch.stray:
            kept = kept[::-1]
        chosen = rng.permutation(int(rng.integers(q, p + q + 1)))[:q]
        to_infer.append(first + kept[chosen])
        known.append(first + np.delete(kept, chosen))
    return np.stack(known), np.stack(to_infer)
