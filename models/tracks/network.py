"""The track network: what the snapshots of one user tell about each other.

A Mateformer locates each snapshot by analogy with the fingerprints near it. Here the snapshots of a track read each
other: their two streams after the Mateformer's last layer, their estimates, and their fixes. The network corrects the
Kalman smoother; without training it is the smoother. The frames stay free of users, so users share them as before.

Shapes: ``b`` tracks, ``t`` snapshots, ``d`` width of the Mateformer, ``w`` width of the tokens. Positions are metres
east and north of the base station.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.mateformer.network import AS_GAUSSIAN, LOG_PRECISIONS, Estimates, invert
from models.tracks.smoother import Motion, smooth

FIX_SCALES_M = (0.5, 2.0, 8.0)  # a fix with this 1-sigma error weighs 1/2
TRACK_SCALE_M = 5.0
LARGEST_OFFSET = 8.0  # in standard deviations: estimates and fixes farther from the smoother look alike
SMALLEST_SIGMA_M = 0.02
NUMBERS = 20 + len(FIX_SCALES_M)  # of `describe_tracks`, for each snapshot

_Floats = NDArray[np.float32]


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
        return Estimates(smoothed + offset * sigma[..., None], torch.stack([a, c, d], dim=-1), determinant, covariance)


@dataclass(frozen=True)
class Described:
    """The inputs of the network beside the streams, float32: names as in `TrackFormer.forward`."""

    numbers: _Floats
    smoothed: _Floats
    sigma: _Floats


def describe_tracks(
    estimates: _Floats,  # [b, t, 2]
    covariances: _Floats,  # [b, t, 2, 2]
    fixes: _Floats,  # [b, t, 2]
    accuracy: _Floats,  # [b, t]; infinite without a fix
    elapsed: _Floats,  # [b, t] seconds or any other unit
    motion: Motion,
) -> Described:
    """Smooths the tracks, and says how the smoother, the estimates and the fixes lie to each other."""
    b, t = elapsed.shape
    gaps = (elapsed - elapsed[:, :1]) / np.maximum(elapsed[:, -1:] - elapsed[:, :1], 1e-9) * (t - 1)
    places, spreads = smooth(estimates, covariances, gaps, motion)
    sigma = np.maximum(_sigma(spreads), SMALLEST_SIGMA_M)
    own = np.maximum(_sigma(covariances), SMALLEST_SIGMA_M)
    scale = sigma[..., None]
    weight = np.square(FIX_SCALES_M) / (np.square(FIX_SCALES_M) + np.square(accuracy)[..., None])  # [b, t, scales]
    away = np.clip((fixes - places) / scale, -LARGEST_OFFSET, LARGEST_OFFSET)
    steps = np.array([np.linalg.norm(late - early, axis=-1) for early, late in pairwise(places.swapaxes(0, 1))])
    stride = steps.mean(axis=0) if t > 1 else np.zeros(b)  # [b]
    distance = np.linalg.norm(places, axis=-1)
    columns = [
        np.clip((estimates - places) / scale, -LARGEST_OFFSET, LARGEST_OFFSET),
        np.log(sigma)[..., None],
        np.log(own)[..., None],
        _shape(spreads, sigma),
        _shape(covariances, own),
        weight,
        weight[..., :1] * away,
        weight[..., -1:] * away,
        places / np.maximum(distance, 1.0)[..., None],
        np.log(np.maximum(distance, 1.0) / 50)[..., None],
        (places - places.mean(axis=1, keepdims=True)) / TRACK_SCALE_M,
        np.broadcast_to(np.log(stride + 0.1)[:, None, None], (b, t, 1)),
        (gaps - gaps.mean(axis=1, keepdims=True))[..., None] / 3,
        np.full((b, t, 1), t / 10),
    ]
    numbers = np.concatenate(columns, axis=-1).astype(np.float32)
    return Described(numbers, places.astype(np.float32), sigma.astype(np.float32))


def _sigma(covariances: NDArray[np.floating]) -> NDArray[np.floating]:
    """The root mean square 1-sigma error on an axis [...] of covariances [..., 2, 2]."""
    sigma: NDArray[np.floating] = np.sqrt(np.trace(covariances, axis1=-2, axis2=-1) / 2)
    return sigma


def _shape(covariances: NDArray[np.floating], sigma: NDArray[np.floating]) -> NDArray[np.floating]:
    """How long an ellipse is and in which direction: [..., 2]."""
    unit = np.square(sigma)
    along = (covariances[..., 0, 0] - covariances[..., 1, 1]) / 2 / unit
    shape: NDArray[np.floating] = np.stack([along, covariances[..., 0, 1] / unit], axis=-1)
    return shape
