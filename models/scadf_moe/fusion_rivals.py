"""The fusions that SCADF-MoE is compared with: the same encoders before them and the same head after them.

The paper lets each rival end in one fused vector. A single head could then only answer one place for all tasks, the
centroid. So each task is read off its own tokens here: a vertex off those of its own snapshot, the centroid off all of
them. That makes the rivals better than the paper's words would; what is left between them is the fusion alone.
Trained on trajectories or not, `Concat` and `FullCon` see one vertex at a time: nothing in them crosses vertices.

Depths match: as many blocks here as SCADF-MoE has with its last. Shapes as in `models.scadf_moe.trajectory_tokens`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.layers.soft_moe import MSA, SoftMoEBlock, quiet
from models.scadf_moe.network import ScadfMoE
from models.scadf_moe.trajectory_tokens import Head, Tokens, TrajectoryConfig, own_tokens


class Pooled(nn.Module):
    """Each task's own tokens, the mean of each modality, one behind the other: [b, t, d] -> [b, m, 2d]"""

    def __init__(self, config: TrajectoryConfig) -> None:
        super().__init__()
        self.register_buffer("own", own_tokens(config, modalities=1), persistent=False)  # [m, t / 2]

    def forward(self, X: Tensor) -> Tensor:
        cfr, numeric = X.chunk(2, dim=1)
        return torch.cat([torch.einsum("mt,btd->bmd", self.own, part) for part in (cfr, numeric)], dim=-1)


class Mean(nn.Module):
    """Each task's own tokens, the mean of both modalities: [b, t, d] -> [b, m, d]"""

    def __init__(self, config: TrajectoryConfig) -> None:
        super().__init__()
        self.register_buffer("own", own_tokens(config, modalities=2), persistent=False)  # [m, t]

    def forward(self, X: Tensor) -> Tensor:
        return torch.einsum("mt,btd->bmd", self.own, X)


class TransformerLayer(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention = MSA(width, heads)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), quiet(nn.Linear(hidden, width))
        )

    def forward(self, X: Tensor) -> Tensor:
        X = self.attention(X)
        return X + self.mlp(X)


class Rival(nn.Module):
    """Encoders, ``fusion`` [b, t, d] -> [b, m, width], head."""

    def __init__(self, config: TrajectoryConfig, fusion: nn.Module, width: int) -> None:
        super().__init__()
        self.config = config
        self.tokens, self.fusion, self.head = Tokens(config), fusion, Head(width)

    def forward(self, csi: Tensor, cues: Tensor) -> Tensor:
        """As `ScadfMoE.forward`."""
        return self.head(self.fusion(self.tokens(csi, cues)))


def concat(config: TrajectoryConfig) -> Rival:
    """No learnable fusion at all."""
    return Rival(config, Pooled(config), 2 * config.width)


def full_con(config: TrajectoryConfig) -> Rival:
    """One fully connected layer: learnt, and the same for every sample."""
    d = config.width
    return Rival(config, nn.Sequential(Pooled(config), nn.Linear(2 * d, d), nn.GELU()), d)


def trans_fusion(config: TrajectoryConfig) -> Rival:
    """A transformer encoder: every token hears every other, by parameters that all samples share."""
    d = config.width
    layers = (TransformerLayer(d, config.heads, config.hidden) for _ in range(config.blocks + 1))
    return Rival(config, nn.Sequential(*layers, Mean(config)), d)


def soft_moe(config: TrajectoryConfig) -> Rival:
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
