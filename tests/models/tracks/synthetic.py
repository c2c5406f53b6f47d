"""Walks whose streams say how far off each estimate is, so that a network can learn to correct it."""

import numpy as np

from models.radio.walks import SNAPSHOTS
from models.tracks.walked import Walked

STREAMS = 8


def draw_walked(walks: int, rng: np.random.Generator) -> Walked:
    start, step = rng.uniform(20, 60, (walks, 1, 2)), rng.normal(0, 1, (walks, 1, 2))
    truth = start + step * np.arange(SNAPSHOTS)[:, None]
    off = rng.normal(0, 1, truth.shape)
    streams = np.concatenate([off, rng.normal(size=(walks, SNAPSHOTS, STREAMS - 2))], axis=-1)
    fixes = truth + rng.normal(0, 1, truth.shape)
    ones = np.broadcast_to(np.eye(2), (walks, SNAPSHOTS, 2, 2))
    return Walked(
        truth.astype(np.float32),
        (truth + off).astype(np.float32),
        ones.astype(np.float32),
        fixes.astype(np.float32),
        np.ones((walks, SNAPSHOTS), np.float32),
        streams.astype(np.float16),
    )
