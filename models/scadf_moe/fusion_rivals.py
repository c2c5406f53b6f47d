"""The fusions that SCADF-MoE is compared with. Encoders and head are the same.

In the paper, each rival ends in one fused vector, from which a single head can only find one place for all tasks: the
centroid. Here each task pools its own tokens: a vertex those of its snapshot, the centroid all of them. This makes the
rivals better than in the paper, and leaves the fusion as the only difference. `concat` and `full_con` see one vertex at
a time, even when they are trained on trajectories: nothing in them mixes vertices.

The depth is that of SCADF-MoE with its modality-task MoE. Shapes as in `models.scadf_moe.trajectory_tokens`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.layers.attention import TransformerLayer
from models.layers.soft_moe import SoftMoEBlock
from models.scadf_moe.network import ScadfMoE
from models.scadf_moe.trajectory_tokens import Head, ScadfMoEConfig, Tokens, own_tokens


class Pooled(nn.Module):
    """The mean of each task's own tokens per modality, concatenated: [b, t, d] -> [b, m, 2d]"""

    def __init__(self, config: ScadfMoEConfig) -> None:
        super().__init__()
        self.register_buffer("own", own_tokens(config, modalities=1), persistent=False)  # [m, t / 2]

    def forward(self, X: Tensor) -> Tensor:
        cfr, numeric = X.chunk(2, dim=1)
        return torch.cat([torch.einsum("mt,btd->bmd", self.own, part) for part in (cfr, numeric)], dim=-1)


class Mean(nn.Module):
    """The mean of each task's own tokens over both modalities: [b, t, d] -> [b, m, d]"""

    def __init__(self, config: ScadfMoEConfig) -> None:
        super().__init__()
        self.register_buffer("own", own_tokens(config, modalities=2), persistent=False)  # [m, t]

    def forward(self, X: Tensor) -> Tensor:
        return torch.einsum("mt,btd->bmd", self.own, X)


class Rival(nn.Module):
    """Encoders, then ``fusion`` [b, t, d] -> [b, m, width], then the head."""

    def __init__(self, config: ScadfMoEConfig, fusion: nn.Module, width: int) -> None:
        super().__init__()
        self.config = config
        self.tokens, self.fusion, self.head = Tokens(config), fusion, Head(width)

    def forward(self, csi: Tensor, path_features: Tensor) -> Tensor:
        """As `ScadfMoE.forward`."""
        return self.head(self.fusion(self.tokens(csi, path_features)))


def concat(config: ScadfMoEConfig) -> Rival:
    """Concatenation, without a learned fusion."""
    return Rival(config, Pooled(config), 2 * config.width)


def full_con(config: ScadfMoEConfig) -> Rival:
    """One fully connected layer, the same for every sample."""
    d = config.width
    return Rival(config, nn.Sequential(Pooled(config), nn.Linear(2 * d, d), nn.GELU()), d)


def trans_fusion(config: ScadfMoEConfig) -> Rival:
    """A transformer encoder: every token attends to every other."""
    d = config.width
    layers = (TransformerLayer(d, config.heads, config.hidden) for _ in range(config.blocks + 1))
    return Rival(config, nn.Sequential(*layers, Mean(config)), d)


def soft_moe(config: ScadfMoEConfig) -> Rival:
    """Soft mixtures of experts with one router for all tasks."""
    d, tokens = config.width, 2 * config.vertices * config.tokens
    sizes = (config.heads, config.experts, config.slots, config.hidden, config.static)
    blocks = (SoftMoEBlock(tokens, d, *sizes) for _ in range(config.blocks + 1))
    return Rival(config, nn.Sequential(*blocks, Mean(config)), d)


FUSIONS = {
    "concat": concat,
    "full-con": full_con,
    "trans-fusion": trans_fusion,
    "soft-moe": soft_moe,
    "scadf-moe": ScadfMoE,
}
