"""From the fused tokens to positions: how tokens are pooled to the vectors that the head reads, and the head.

The paper does not say how a token matrix becomes the embedding that the linear head maps. There are three readings:

- ``own``: each task pools its own tokens. Those of a vertex come from its snapshot; the centroid pools all.
- ``pooled``: all tokens become one vector. The head finds one position in it, the answer for all tasks.
- ``numbers``: all tokens become one vector. The head maps it to 2 m numbers, a position for each task.

SCADF-MoE has a token matrix for each task. With ``pooled`` each task pools all tokens of its own matrix, so that only
the routers and the task embeddings tell the vertices apart. ``numbers`` is not for SCADF-MoE.

Shapes as in `models.scadf_moe.trajectory_tokens`; ``p`` pooled vectors: m with ``own``, else one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.scadf_moe.trajectory_tokens import ScadfMoEConfig


def own_tokens(config: ScadfMoEConfig, modalities: int) -> Tensor:
    """Mean weights [m, modalities·v·n] that pool the tokens of each task: a vertex pools its own, the centroid all."""
    v, n = config.vertices, config.tokens
    one = torch.cat([torch.eye(v) / n, torch.full((1, v), 1 / (v * n))])  # [m, v]
    return one.repeat_interleave(n, dim=1).repeat(1, modalities) / modalities


def all_tokens(config: ScadfMoEConfig, modalities: int) -> Tensor:
    """Mean weights [1, modalities·v·n] of the vector that pools all tokens."""
    tokens = modalities * config.vertices * config.tokens
    return torch.full((1, tokens), 1 / tokens)


def pool_tokens(config: ScadfMoEConfig, modalities: int) -> Tensor:
    """Mean weights [p, modalities·v·n] of the vectors that the head of a rival reads."""
    return (own_tokens if config.readout == "own" else all_tokens)(config, modalities)


def pool_task_tokens(config: ScadfMoEConfig) -> Tensor:
    """Mean weights [m, t] of the vector of each task, over the task's own token matrix."""
    if config.readout == "own":
        return own_tokens(config, modalities=2)
    return all_tokens(config, modalities=2).repeat(config.vertices + 1, 1)


class Head(nn.Module):
    """Maps each vector to ``places`` positions, in metres from the base station. All vectors share the weights."""

    def __init__(self, width: int, places: int = 1) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, 2 * places)
        # Mean and spread of the training points, so that the initial answers lie among them.
        self.register_buffer("centre", torch.zeros(2))  # metres
        self.register_buffer("spread", torch.ones(()))  # metres

    def forward(self, embeddings: Tensor) -> Tensor:
        """[b, p, d] -> [b, p·places, 2]"""
        numbers = self.linear(self.norm(embeddings))  # [b, p, 2·places]
        return numbers.unflatten(-1, (-1, 2)).flatten(1, 2) * self.spread + self.centre
