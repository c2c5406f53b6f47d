"""SCADF-MoE: locates a short trajectory at once, by CSI and geometry cues that it weighs anew for every sample.

Soft mixtures of experts fuse the tokens of both modalities; the last one has a router a task, so that every vertex and
the centroid hear other tokens by other weights, while the experts are the same for all.

Shapes as in `models.scadf_moe.trajectory_tokens` and `models.layers.soft_moe`: ``b`` trajectories, ``t`` tokens,
``d`` width, ``m`` tasks, ``s`` slots.

The paper does not say how a task's token matrix becomes the one embedding that its linear head maps. Here it is the
mean of the task's own tokens, those of its vertex (for the centroid, all), as in the rivals: only the fusion differs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.layers.soft_moe import MSA, Experts, Router, Routing, SoftMoEBlock, route
from models.scadf_moe.trajectory_tokens import Head, Tokens, TrajectoryConfig, own_tokens


class TaskTokens(NamedTuple):
    tokens: Tensor  # Y [b, m, t, d]
    routing: Routing  # of every task [b, m, t, s]


class ModalityTaskMoE(nn.Module):
    """A soft MoE block with a router and an embedding for each task, and experts that all tasks share."""

    def __init__(self, config: TrajectoryConfig) -> None:
        super().__init__()
        d, tasks = config.width, config.vertices + 1
        self.attention = MSA(d, config.heads)
        self.norm = nn.LayerNorm(d)
        tokens = 2 * config.vertices * config.tokens
        self.routers = Router(tasks, tokens, d, config.experts * config.slots, config.static)
        self.task = nn.Parameter(0.02 * torch.randn(tasks, 1, d))
        self.experts = Experts(config.experts, d, config.hidden)

    def forward(self, X: Tensor) -> TaskTokens:
        """X [b, t, d]"""
        X = self.attention(X)
        x = self.norm(X)
        D, C = routing = route(self.routers(x))
        slots = torch.einsum("bmts,btd->bmsd", D, x) + self.task
        return TaskTokens(X[:, None] + torch.einsum("bmts,bmsd->bmtd", C, self.experts(slots)), routing)


class Located(NamedTuple):
    positions: Tensor  # [b, m, 2] metres: every vertex, then the centroid
    routing: Routing  # of the tasks [b, m, t, s]


class ScadfMoE(nn.Module):
    def __init__(self, config: TrajectoryConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = Tokens(config)
        self.blocks = nn.Sequential(
            *(
                SoftMoEBlock(
                    2 * config.vertices * config.tokens,
                    config.width,
                    config.heads,
                    config.experts,
                    config.slots,
                    config.hidden,
                    config.static,
                )
                for _ in range(config.blocks)
            )
        )
        self.tasks = ModalityTaskMoE(config)
        self.register_buffer("own", own_tokens(config, modalities=2), persistent=False)  # [m, t]
        self.head = Head(config.width)

    def forward(self, csi: Tensor, cues: Tensor) -> Tensor:
        """Where a trajectory is, [b, m, 2] metres; csi [b, v, a, s, 2], cues [b, v, 4]."""
        return self.located(csi, cues).positions

    def located(self, csi: Tensor, cues: Tensor) -> Located:
        """`forward`, with the routing that training holds apart."""
        Y, routing = self.tasks(self.blocks(self.tokens(csi, cues)))
        return Located(self.head(torch.einsum("mt,bmtd->bmd", self.own, Y)), routing)
