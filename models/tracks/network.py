"""The track network: what the snapshots of one user tell about each other.

A Mateformer locates each snapshot by analogy with the fingerprints near it. Here the snapshots of a track read each
other: their two streams after the Mateformer's last layer, their estimates, and their fixes. The network corrects the
Kalman smoother; without training it is the smoother. The frames stay free of users, so users share them as before.

Shapes: ``b`` tracks, ``t`` snapshots, ``d`` width of the Mateformer, ``w`` width of the tokens. Positions are metres
east and north of the base station.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.artifact.track_numbers import NUMBERS
from models.mateformer.network import AS_GAUSSIAN, LOG_PRECISIONS, Estimates, invert


@dataclass(frozen=True)
class TrackConfig:
    streams: int = 256  # both of the Mateformer
    width: int = 128
    depth: int = 3
    hidden: int = 256
    heads: int = 4


class TrackLayer(nn.Module):
    """Self-attention of the snapshots of a track, then a feed-forward network, both after layer normalisation."""

    def __init__(self, config: TrackConfig) -> None:
        super().__init__()
        w = config.width
        self.norm, self.heads = nn.LayerNorm(w), config.heads
        self.QKV, self.O = nn.Linear(w, 3 * w), nn.Linear(w, w)
        self.FFN = nn.Sequential(nn.LayerNorm(w), nn.Linear(w, config.hidden), nn.GELU(), nn.Linear(config.hidden, w))

    def forward(self, z: Tensor) -> Tensor:  # [b, t, w]
        Q, K, V = self.QKV(self.norm(z)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [b, h, t, e]
        mixed = nn.functional.scaled_dot_product_attention(Q, K, V)
        z = z + self.O(mixed.transpose(1, 2).flatten(2))
        return z + self.FFN(z)


class TrackFormer(nn.Module):
    def __init__(self, config: TrackConfig) -> None:
        super().__init__()
        w = config.width
        self.embed_streams = nn.Sequential(nn.LayerNorm(config.streams), nn.Linear(config.streams, w))
        self.embed_numbers = nn.Sequential(nn.Linear(NUMBERS, w), nn.GELU(), nn.Linear(w, w))
        self.layers = nn.ModuleList(TrackLayer(config) for _ in range(config.depth))
        self.output = nn.Sequential(nn.LayerNorm(w), nn.Linear(w, 5))
        nn.init.zeros_(self.output[-1].weight)
        nn.init.zeros_(self.output[-1].bias)

    def forward(
        self,
        streams: Tensor,  # [b, t, 2d]
        numbers: Tensor,  # [b, t, NUMBERS]
        smoothed: Tensor,  # [b, t, 2]
        sigma: Tensor,  # [b, t] 1-sigma error on an axis that the smoother states
    ) -> Estimates:
        z = self.embed_streams(streams) + self.embed_numbers(numbers)
        for layer in self.layers:
            z = layer(z)
        offset, diagonal, below = self.output(z).split([2, 2, 1], dim=-1)
        l11, l22 = diagonal.clamp(*LOG_PRECISIONS).exp().unbind(-1)
        l21, unit = below[..., 0], sigma.square()
        a, c, d = l11.square() / unit, l11 * l21 / unit, (l21.square() + l22.square()) / unit
        determinant = (l11 * l22 / unit).square()
        covariance = AS_GAUSSIAN * invert(a, c, d, determinant)
        position = smoothed + offset * sigma[..., None]
        return Estimates(position, torch.stack([a, c, d], dim=-1), determinant, covariance, streams=z)
