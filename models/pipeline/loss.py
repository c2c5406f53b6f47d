"""Position losses."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

SMALLEST_M = 0.05  # the relative loss gains little from errors below this


def position_loss(kind: Literal["mse", "distance", "relative"], estimates: Tensor, positions: Tensor) -> Tensor:
    """The loss of estimates [b, q, 2] against positions [b, q, 2] in metres.

    - ``mse``: mean squared error of a coordinate.
    - ``distance``: mean distance.
    - ``relative``: mean over samples of the logarithm of each one's mean distance. Every sample has the same weight,
      however large its errors are.
    """
    if kind == "mse":
        return (estimates - positions).square().sum(-1).mean() / 2
    distances = mean_distance(estimates, positions)
    return distances.mean() if kind == "distance" else (distances + SMALLEST_M).log().mean()


def mean_distance(estimates: Tensor, positions: Tensor) -> Tensor:
    """The mean distance (metres) of each sample [b] of estimates [b, q, 2] from positions [b, q, 2]."""
    return ((estimates - positions).square().sum(-1) + 1e-6).sqrt().mean(1)
