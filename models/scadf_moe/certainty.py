"""How sure a trained SCADF-MoE is: a covariance for each vertex and for the centroid, from the same tokens.

Errors are modelled as bivariate Student-t. Shapes as in `models.scadf_moe.trajectory_tokens`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.scadf_moe.network import ScadfMoE

SIGMA_UNIT = 0.2  # metres: the 1-sigma error that an output of zero stands for
LOG_SIGMAS = (-3.0, 5.0)  # bounds of the logarithm of a 1-sigma error in that unit
HIGHEST_CORRELATION = 0.99

# The covariance that is put out is that of the Gaussian with the same 95 % ellipse as the Student-t distribution: the
# squared radii are 2 F(0.95; 2, 4) = 13.889 and 5.991.
DEGREES_OF_FREEDOM = 4
AS_GAUSSIAN = 13.889 / 5.991


class Spread(NamedTuple):
    """The scale matrices of Student-t distributions, by the axes' scales and correlations."""

    sigma: Tensor  # [b, m, 2] metres east and north
    correlation: Tensor  # [b, m]


class Certainty(nn.Module):
    """Reads how far off a position may be off the embedding that it was read off; the centroid has its own weights."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.vertex, self.centroid = (
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, 3))
            for _ in range(2)
        )

    def forward(self, embeddings: Tensor) -> Tensor:
        """[b, m, d] -> covariances [b, m, 2, 2] in square metres."""
        sigma, correlation = self.spread(embeddings)
        east, north = sigma.square().unbind(-1)
        across = correlation * sigma.prod(-1)
        return AS_GAUSSIAN * torch.stack([east, across, across, north], dim=-1).unflatten(-1, (2, 2))

    def spread(self, embeddings: Tensor) -> Spread:
        """[b, m, d]"""
        numbers = torch.cat([self.vertex(embeddings[:, :-1]), self.centroid(embeddings[:, -1:])], dim=1)  # [b, m, 3]
        sigma = SIGMA_UNIT * numbers[..., :2].clamp(*LOG_SIGMAS).exp()
        return Spread(sigma, HIGHEST_CORRELATION * numbers[..., 2].tanh())


def surprise(error: Tensor, spread: Spread) -> Tensor:
    """Minus the log density [b, m], up to a constant, of errors [b, m, 2] in metres."""
    x, y = (error / spread.sigma).unbind(-1)
    free = 1 - spread.correlation.square()
    squared = (x.square() - 2 * spread.correlation * x * y + y.square()) / free
    heavy = (1 + DEGREES_OF_FREEDOM / 2) * (squared / DEGREES_OF_FREEDOM).log1p()
    return heavy + spread.sigma.log().sum(-1) + free.log() / 2


class CertainScadfMoE(nn.Module):
    """What the artifact's graph computes: the positions of a trained SCADF-MoE, and their covariances."""

    def __init__(self, trunk: ScadfMoE, certainty: Certainty) -> None:
        super().__init__()
        self.trunk, self.certainty = trunk, certainty

    def forward(self, csi: Tensor, path_features: Tensor) -> tuple[Tensor, Tensor]:
        """csi [b, v, a, s, 2], path features [b, v, 4] -> positions [b, m, 2], covariances [b, m, 2, 2]."""
        located = self.trunk.locate(csi, path_features)
        return located.positions, self.certainty(located.embeddings)
