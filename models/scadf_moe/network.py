"""SCADF-MoE: locates a short trajectory from CSI and path features, with fusion weights that depend on the sample.

Soft mixtures of experts fuse the tokens of both modalities. The last one has one router per task, so that each vertex
and the centroid weight the tokens differently. All tasks share the experts.

Shapes as in `models.scadf_moe.trajectory_tokens` and `models.layers.soft_moe`: ``b`` trajectories, ``t`` tokens,
``d`` width, ``m`` tasks, ``s`` slots.

The paper does not say how the token matrix of a task becomes the embedding that the linear head maps. By default it is
the mean of the task's own tokens: those of its vertex, or all tokens for the centroid. `models.scadf_moe.readout` has
the other readings. The models in `models.scadf_moe.fusion_rivals` do the same by default, so that only the fusion
differs.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.layers.attention import MSA
from models.layers.soft_moe import Experts, Router, Routing, route
from models.scadf_moe.first_blocks import build_soft_moe_block, first_blocks
from models.scadf_moe.readout import Head, pool_task_tokens
from models.scadf_moe.trajectory_tokens import ScadfMoEConfig, Tokens


class TaskTokens(NamedTuple):
    tokens: Tensor  # Y [b, m, t, d]
    routing: Routing  # [b, m, t, s]


class ModalityTaskMoE(nn.Module):
    """A soft MoE block with one router and one embedding per task, and experts that all tasks share."""

    def __init__(self, config: ScadfMoEConfig) -> None:
        super().__init__()
        d, tasks = config.width, config.vertices + 1
        self.attention = MSA(d, config.heads, config.residual_init)
        self.norm = nn.LayerNorm(d)
        tokens = 2 * config.vertices * config.tokens
        self.routers = Router(tasks, tokens, d, config.experts * config.slots, config.static)
        self.task = nn.Parameter(0.02 * torch.randn(tasks, 1, d))
        self.experts = Experts(config.experts, d, config.hidden, config.residual_init)

    def forward(self, X: Tensor) -> TaskTokens:
        """X [b, t, d]"""
        X = self.attention(X)
        x = self.norm(X)
        D, C = routing = route(self.routers(x))
        slots = torch.einsum("bmts,btd->bmsd", D, x) + self.task
        return TaskTokens(X[:, None] + torch.einsum("bmts,bmsd->bmtd", C, self.experts(slots)), routing)


class Located(NamedTuple):
    positions: Tensor  # [b, m, 2] metres: each vertex, then the centroid
    routing: Routing  # [b, m, t, s]
    embeddings: Tensor  # [b, m, d] the pooled tokens of each task


class ScadfMoE(nn.Module):
    def __init__(self, config: ScadfMoEConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = Tokens(config)
        self.blocks = nn.Sequential(*first_blocks(config, partial(build_soft_moe_block, config)))
        self.tasks = ModalityTaskMoE(config)
        self.register_buffer("pool", pool_task_tokens(config), persistent=False)  # [m, t]
        self.head = Head(config.width)

    def forward(self, csi: Tensor, path_features: Tensor) -> Tensor:
        """csi [b, v, a, s, 2], path features [b, v, 4] -> positions [b, m, 2] in metres."""
        return self.locate(csi, path_features).positions

    def locate(self, csi: Tensor, path_features: Tensor) -> Located:
        """`forward`, the routing of the tasks for the loss, and what `Certainty` reads."""
        Y, routing = self.tasks(self.blocks(self.tokens(csi, path_features)))
        embeddings = torch.einsum("mt,bmtd->bmd", self.pool, Y)
        return Located(self.head(embeddings), routing, embeddings)
