"""LWLM's encoder: a transformer over patches of the spatial-frequency channel.

The facts behind this module are in the paper "Large Wireless Localization Model". Shapes: ``b`` snapshots, ``a``
antennas, ``s`` subcarriers, ``t`` tokens (patches), ``d`` width. The numbers of antennas and subcarriers are free, in
multiples of the patch. Layers are pre-norm, as in our other families; the paper's are post-norm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.layers.attention import TransformerLayer


@dataclass(frozen=True)
class LwlmConfig:
    """Sizes. ``patch_antennas`` x ``patch_subcarriers`` entries of the channel become one token.

    ``slices`` are the widths of the embedding's parts that DTI, SF-MCM and PICL train. They add up to ``width``.
    """

    width: int
    layers: int
    heads: int
    hidden: int
    patch_antennas: int
    patch_subcarriers: int
    slices: tuple[int, int, int]
    decoder_width: int
    decoder_layers: int

    def __post_init__(self) -> None:
        if sum(self.slices) != self.width:
            raise ValueError(f"the slices {self.slices} do not add up to the width {self.width}")

    @property
    def patch(self) -> int:
        """Real numbers of a patch."""
        return 2 * self.patch_antennas * self.patch_subcarriers


class Encoded(NamedTuple):
    summary: Tensor  # [b, d] the class token
    tokens: Tensor  # [b, t, d]


class LwlmEncoder(nn.Module):
    def __init__(self, config: LwlmConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Linear(config.patch, config.width)
        self.summary = nn.Parameter(0.02 * torch.randn(config.width))
        self.layers = nn.Sequential(
            *(TransformerLayer(config.width, config.heads, config.hidden) for _ in range(config.layers))
        )
        self.norm = nn.LayerNorm(config.width)

    def forward(self, csi: Tensor) -> Encoded:
        """csi [b, a, s, 2] of unit mean power"""
        X = self.embed(split_patches(csi, self.config))  # [b, t, d]
        X = X + patch_positions(csi.shape[1], csi.shape[2], self.config).to(X)
        summary = self.summary.expand(X.shape[0], 1, -1)
        X = self.norm(self.layers(torch.cat([summary, X], dim=1)))
        return Encoded(X[:, 0], X[:, 1:])


def normalise(csi: Tensor) -> Tensor:
    """Scales each snapshot [b, a, s, 2] to unit mean power, and turns it so that its centre has phase zero.

    What is left does not depend on the receiver's gain and on the oscillator's phase.
    """
    power = 2 * csi.square().mean((1, 2, 3), keepdim=True)
    csi = csi * power.clamp_min(1e-30).rsqrt()
    a, s = csi.shape[1:3]
    centre = csi[:, a // 2 - 2 : a // 2 + 2, s // 2 - 4 : s // 2 + 4].sum((1, 2))  # [b, 2]
    cos, sin = (centre / centre.norm(dim=-1, keepdim=True).clamp_min(1e-9))[:, None, None].unbind(-1)
    re, im = csi.unbind(-1)
    return torch.stack([re * cos + im * sin, im * cos - re * sin], dim=-1)


def split_patches(csi: Tensor, config: LwlmConfig) -> Tensor:
    """csi [b, a, s, 2] -> patches [b, t, p], antenna blocks outermost."""
    pa, ps = config.patch_antennas, config.patch_subcarriers
    blocks = csi.unflatten(2, (-1, ps)).unflatten(1, (-1, pa))  # [b, a/pa, pa, s/ps, ps, 2]
    return blocks.transpose(2, 3).flatten(1, 2).flatten(2)


def patch_positions(antennas: int, subcarriers: int, config: LwlmConfig) -> Tensor:
    """Fixed sinusoidal positions [t, d]: half of the width for the antenna block, half for the subcarrier block."""
    rows, columns = antennas // config.patch_antennas, subcarriers // config.patch_subcarriers
    row = _sinusoids(torch.arange(rows), config.width // 2)[:, None].expand(-1, columns, -1)
    column = _sinusoids(torch.arange(columns), config.width // 2)[None].expand(rows, -1, -1)
    return torch.cat([row, column], dim=-1).flatten(0, 1)


def _sinusoids(position: Tensor, width: int) -> Tensor:
    """[n] -> [n, width]"""
    frequency = torch.exp(-math.log(1e3) * torch.arange(0, width, 2) / width)
    angle = position[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)
