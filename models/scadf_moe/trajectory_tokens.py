"""What every network for trajectories shares: the two encoders in front of the fusion, and the head behind it.

Shapes: ``b`` trajectories, ``v`` vertices of one, ``a`` antennas, ``s`` subcarriers, ``d`` width, ``n`` tokens a vertex
and a modality, ``t = 2 v n`` tokens, ``m = v + 1`` tasks: where each vertex is, then where their centroid is. CSI is
real pairs ``[b, v, a, s, 2]``. Cues are ``[b, v, 4]``: azimuth of departure and of arrival (radians, axes of the cell),
length of the strongest path (metres), large-scale gain (linear power).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

CUES = 4
DISTANCE_SCALE = 50.0  # metres
GAIN_CENTRE_DB, GAIN_SCALE_DB = -90.0, 15.0


@dataclass(frozen=True)
class TrajectoryConfig:
    antennas: int = 32
    subcarriers: int = 64
    vertices: int = 5
    tokens: int = 4  # n, which divides half the subcarriers
    width: int = 128
    heads: int = 4
    blocks: int = 2  # L, in front of the last one
    experts: int = 8
    slots: int = 1  # an expert
    hidden: int = 256  # inside an expert, and of a transformer's MLP
    static: bool = False  # routers that no sample changes


class CFREncoder(nn.Module):
    """(re, im, magnitude) of every antenna -> n tokens a vertex."""

    def __init__(self, config: TrajectoryConfig) -> None:
        super().__init__()
        channels, d, piece = 3 * config.antennas, config.width, config.subcarriers // (2 * config.tokens)
        # One-dimensional, in two with the channels last: more than twice as quick on a CPU.
        self.depthwise = nn.Conv2d(channels, channels, (1, 7), padding=(0, 3), groups=channels)
        self.mix = nn.Conv2d(channels, d, (1, 5), stride=(1, 2), padding=(0, 2))
        self.cut = nn.Conv2d(d, d, (1, piece), stride=(1, piece))

    def forward(self, csi: Tensor) -> Tensor:
        """[b, v, a, s, 2] -> [b, v, n, d]; every snapshot at unit power, for its gain is among the cues."""
        power = csi.square().sum(-1).mean((-2, -1), keepdim=True)[..., None]  # [b, v, 1, 1, 1]
        H = csi * power.clamp_min(1e-30).rsqrt()
        re, im = H.unbind(-1)  # [b, v, a, s]
        magnitude = (re.square() + im.square() + 1e-12).sqrt()
        x = torch.cat([re, im, magnitude], dim=2).flatten(0, 1)[:, :, None]  # [b·v, 3a, 1, s]
        x = x.contiguous(memory_format=torch.channels_last)
        x = nn.functional.gelu(self.mix(self.depthwise(x)))
        return self.cut(x)[:, :, 0].mT.unflatten(0, csi.shape[:2])


class NumericEncoder(nn.Module):
    """The four cues of a vertex -> n tokens. Angles enter by cosine and sine: they have no seam."""

    def __init__(self, config: TrajectoryConfig) -> None:
        super().__init__()
        d = config.width
        self.tokens = config.tokens
        self.mlp = nn.Sequential(
            nn.Linear(CUES + 2, d), nn.GELU(), nn.Linear(d, d), nn.GELU(), nn.Linear(d, d * config.tokens)
        )

    def forward(self, cues: Tensor) -> Tensor:
        """[b, v, 4] -> [b, v, n, d]"""
        angles, distance, gain = cues.split([2, 1, 1], dim=-1)
        decibels = gain.clamp_min(1e-30).log() * (10 / math.log(10))
        scaled = [distance / DISTANCE_SCALE, (decibels - GAIN_CENTRE_DB) / GAIN_SCALE_DB]
        return self.mlp(torch.cat([angles.cos(), angles.sin(), *scaled], dim=-1)).unflatten(-1, (self.tokens, -1))


class Tokens(nn.Module):
    """Both encoders, positional embeddings added: the tokens of the CFR, then those of the cues."""

    def __init__(self, config: TrajectoryConfig) -> None:
        super().__init__()
        self.cfr, self.numeric = CFREncoder(config), NumericEncoder(config)
        self.position = nn.Parameter(0.02 * torch.randn(2 * config.vertices * config.tokens, config.width))

    def forward(self, csi: Tensor, cues: Tensor) -> Tensor:
        """[b, t, d]"""
        return torch.cat([self.cfr(csi).flatten(1, 2), self.numeric(cues).flatten(1, 2)], dim=1) + self.position


def own_tokens(config: TrajectoryConfig, modalities: int) -> Tensor:
    """Weights [m, modalities·v·n] of the tokens that each task is read off: a vertex its own, the centroid all."""
    v, n = config.vertices, config.tokens
    one = torch.cat([torch.eye(v) / n, torch.full((1, v), 1 / (v * n))])  # [m, v]
    return one.repeat_interleave(n, dim=1).repeat(1, modalities) / modalities


class Head(nn.Module):
    """The same normalisation and the same linear map for every task, out to metres from the base station."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, 2)
        # Where the training points are, so that the network begins in their midst.
        self.register_buffer("centre", torch.zeros(2))  # metres
        self.register_buffer("spread", torch.ones(()))  # metres

    def forward(self, embeddings: Tensor) -> Tensor:
        """[b, m, d] -> [b, m, 2]"""
        return self.linear(self.norm(embeddings)) * self.spread + self.centre
