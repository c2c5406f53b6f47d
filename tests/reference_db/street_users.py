"""Users of the fixture `street`: their coarse positions and the errors of their estimates."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Street = Callable[..., tuple[Floats, NDArray[np.complex64]]]  # the fixture

USERS = 60


def fix(truth: Floats, sigma: float, seed: int = 0) -> tuple[Floats, Floats]:
    """Coarse positions with an error of `sigma` metres per axis, and `sigma` as their accuracy."""
    blur = np.random.default_rng(seed).normal(0, sigma, truth.shape)
    return (truth + blur).astype(np.float32), np.full(len(truth), sigma, np.float32)


def no_fix(n: int) -> tuple[Floats, Floats]:
    return np.full((n, 2), np.nan, np.float32), np.full(n, np.nan, np.float32)


def errors(guess: Floats, truth: Floats) -> Floats:
    """Errors float32 `[n]`, metres."""
    distances: Floats = np.linalg.norm(guess - truth, axis=1)
    return distances
