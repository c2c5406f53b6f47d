"""What all trajectory models share in front of the fusion: the two encoders, and the sizes.

Shapes: ``b`` trajectories, ``v`` vertices per trajectory, ``a`` antennas, ``s`` subcarriers, ``d`` width, ``n`` tokens
per vertex and modality, ``t = 2 v n`` tokens, ``m = v + 1`` tasks: the position of each vertex, then of the centroid.
CSI is real pairs ``[b, v, a, s, 2]``. Path features are ``[b, v, 4]``: AoD and AoA (azimuths in radians, axes of the
cell), range (length of the strongest path, metres), large-scale gain (linear power).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from models.layers.attention import RESIDUAL_INIT_SCALE

Readout = Literal["own", "pooled", "numbers"]  # see `models.scadf_moe.readout`

PATH_FEATURES = 4
RANGE_SCALE = 50.0  # metres
GAIN_CENTRE_DB, GAIN_SCALE_DB = -90.0, 15.0


@dataclass(frozen=True)
class ScadfMoEConfig:
    antennas: int = 32
    subcarriers: int = 64
    vertices: int = 5
    tokens: int = 4  # n, a divisor of half the subcarriers
    width: int = 128
    heads: int = 4
    blocks: int = 2  # L, before the modality-task MoE
    experts: int = 8
    slots: int = 1  # per expert
    hidden: int = 256  # width inside an expert or an MLP
    static: bool = False  # routers that do not depend on the sample
    residual_init: float = (
        RESIDUAL_INIT_SCALE  # initial weights of the residual branches' last layers; 1: the usual ones
    )
    readout: Readout = "own"
    by_vertex: bool = False  # the first L blocks see one vertex at a time (`models.scadf_moe.first_blocks`)


class CFREncoder(nn.Module):
    """(re, im, magnitude) of every antenna -> n tokens per vertex."""

    def __init__(self, config: ScadfMoEConfig) -> None:
        super().__init__()
        channels, d, piece = 3 * config.antennas, config.width, config.subcarriers // (2 * config.tokens)
        # 1-D convolutions as 2-D ones with channels last: more than twice as fast on a CPU.
        self.depthwise = nn.Conv2d(channels, channels, (1, 7), padding=(0, 3), groups=channels)
        self.mix = nn.Conv2d(channels, d, (1, 5), stride=(1, 2), padding=(0, 2))
        self.cut = nn.Conv2d(d, d, (1, piece), stride=(1, piece))

    def forward(self, csi: Tensor) -> Tensor:
        """[b, v, a, s, 2] -> [b, v, n, d]. Snapshots are scaled to unit power: the gain is one of the path features."""
        power = csi.square().sum(-1).mean((-2, -1), keepdim=True)[..., None]  # [b, v, 1, 1, 1]
        H = csi * power.clamp_min(1e-30).rsqrt()
        re, im = H.unbind(-1)  # [b, v, a, s]
        magnitude = (re.square() + im.square() + 1e-12).sqrt()
        x = torch.cat([re, im, magnitude], dim=2).flatten(0, 1)[:, :, None]  # [b·v, 3a, 1, s]
        x = x.contiguous(memory_format=torch.channels_last)
        x = nn.functional.gelu(self.mix(self.depthwise(x)))
        return self.cut(x)[:, :, 0].mT.unflatten(0, csi.shape[:2])


class NumericEncoder(nn.Module):
    """The path features of a vertex -> n tokens. Angles enter as cosine and sine, which have no jump at ±π."""

    def __init__(self, config: ScadfMoEConfig) -> None:
        super().__init__()
        d = config.width
        self.tokens = config.tokens
        self.mlp = nn.Sequential(
            nn.Linear(PATH_FEATURES + 2, d), nn.GELU(), nn.Linear(d, d), nn.GELU(), nn.Linear(d, d * config.tokens)
        )

    def forward(self, path_features: Tensor) -> Tensor:
        """[b, v, 4] -> [b, v, n, d]"""
        angles, distance, gain = path_features.split([2, 1, 1], dim=-1)
        decibels = gain.clamp_min(1e-30).log() * (10 / math.log(10))
        scaled = [distance / RANGE_SCALE, (decibels - GAIN_CENTRE_DB) / GAIN_SCALE_DB]
        return self.mlp(torch.cat([angles.cos(), angles.sin(), *scaled], dim=-1)).unflatten(-1, (self.tokens, -1))


class Tokens(nn.Module):
    """Both encoders with positional embeddings: the tokens of the CFR, then those of the path features."""

    def __init__(self, config: ScadfMoEConfig) -> None:
        super().__init__()
        self.cfr, self.numeric = CFREncoder(config), NumericEncoder(config)
        self.position = nn.Parameter(0.02 * torch.randn(2 * config.vertices * config.tokens, config.width))

    def forward(self, csi: Tensor, path_features: Tensor) -> Tensor:
        """[b, t, d]"""
        tokens = self.cfr(csi).flatten(1, 2), self.numeric(path_features).flatten(1, 2)
        return torch.cat(tokens, dim=1) + self.position
