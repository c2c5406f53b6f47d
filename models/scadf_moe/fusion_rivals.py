"""The fusions that SCADF-MoE is compared with. Encoders and head are the same.

In the paper, Concat pools each modality to one vector, and the other rivals seem to end in one vector, too. From one
vector, a head that answers one position can only find the centroid. `models.scadf_moe.readout` has this reading. By
default each task pools its own tokens. This makes the rivals better than in the paper, and leaves the fusion as the
only difference.

`concat` and `full_con` mix vertices by pooling only: with own tokens they see one vertex at a time, and one vector of
all tokens does not depend on the order of the vertices.

The depth is that of SCADF-MoE with its modality-task MoE. Shapes as in `models.scadf_moe.trajectory_tokens`; ``p``
pooled vectors.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from models.layers.attention import TransformerLayer
from models.scadf_moe.first_blocks import build_soft_moe_block, first_blocks
from models.scadf_moe.network import ScadfMoE
from models.scadf_moe.readout import Head, pool_tokens
from models.scadf_moe.trajectory_tokens import ScadfMoEConfig, Tokens


class ModalityMeans(nn.Module):
    """The mean of the pooled tokens of each modality, concatenated: [b, t, d] -> [b, p, 2d]"""

    def __init__(self, config: ScadfMoEConfig) -> None:
        super().__init__()
        self.register_buffer("weights", pool_tokens(config, modalities=1), persistent=False)  # [p, t / 2]

    def forward(self, X: Tensor) -> Tensor:
        cfr, numeric = X.chunk(2, dim=1)
        return torch.cat([torch.einsum("pt,btd->bpd", self.weights, part) for part in (cfr, numeric)], dim=-1)


class TokenMeans(nn.Module):
    """The mean of the pooled tokens of both modalities: [b, t, d] -> [b, p, d]"""

    def __init__(self, config: ScadfMoEConfig) -> None:
        super().__init__()
        self.register_buffer("weights", pool_tokens(config, modalities=2), persistent=False)  # [p, t]

    def forward(self, X: Tensor) -> Tensor:
        return torch.einsum("pt,btd->bpd", self.weights, X)


class Rival(nn.Module):
    """Encoders, then ``fusion`` [b, t, d] -> [b, p, width], then the head. One position stands for all tasks."""

    def __init__(self, config: ScadfMoEConfig, fusion: nn.Module, width: int) -> None:
        super().__init__()
        self.config, self.answers = config, config.vertices + 1
        self.tokens, self.fusion = Tokens(config), fusion
        self.head = Head(width, places=self.answers if config.readout == "numbers" else 1)

    def forward(self, csi: Tensor, path_features: Tensor) -> Tensor:
        """As `ScadfMoE.forward`."""
        positions = self.head(self.fusion(self.tokens(csi, path_features)))  # [b, m, 2] or [b, 1, 2]
        return positions.expand(-1, self.answers, -1)


def concat(config: ScadfMoEConfig) -> Rival:
    """Concatenation, without a learned fusion."""
    return Rival(config, ModalityMeans(config), 2 * config.width)


def full_con(config: ScadfMoEConfig) -> Rival:
    """One fully connected layer, the same for every sample."""
    d = config.width
    return Rival(config, nn.Sequential(ModalityMeans(config), nn.Linear(2 * d, d), nn.GELU()), d)


def trans_fusion(config: ScadfMoEConfig) -> Rival:
    """A transformer encoder: every token attends to every other."""
    d = config.width

    def build(tokens: int) -> TransformerLayer:
        return TransformerLayer(d, config.heads, config.hidden, config.residual_init)

    tokens = 2 * config.vertices * config.tokens
    return Rival(config, nn.Sequential(*first_blocks(config, build), build(tokens), TokenMeans(config)), d)


def soft_moe(config: ScadfMoEConfig) -> Rival:
    """Soft mixtures of experts with one router for all tasks."""
    build = partial(build_soft_moe_block, config)
    tokens = 2 * config.vertices * config.tokens
    blocks = nn.Sequential(*first_blocks(config, build), build(tokens), TokenMeans(config))
    return Rival(config, blocks, config.width)


FUSIONS = {
    "concat": concat,
    "full-con": full_con,
    "trans-fusion": trans_fusion,
    "soft-moe": soft_moe,
    "scadf-moe": ScadfMoE,
}
