"""Soft mixture of experts (Puigcerver et al.).

Each slot of an expert is a weighted mean of all tokens (dispatch), and each token receives a weighted mean of all slots
(combine).

Shapes: ``b`` samples, ``t`` tokens, ``d`` width, ``e`` experts, ``p`` slots per expert, ``s = e p`` slots, ``f`` width
inside an expert. ``...`` is the task dimension, if there is one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.layers.attention import MSA, RESIDUAL_INIT_SCALE


class Routing(NamedTuple):
    """The dispatch and combine weights of a soft mixture of experts."""

    dispatch: Tensor  # D [b, ..., t, s] sums to one over the tokens
    combine: Tensor  # C [b, ..., t, s] sums to one over the slots


def route(logits: Tensor) -> Routing:
    """Both softmaxes of X·Φ [b, ..., t, s]."""
    return Routing(logits.softmax(-2), logits.softmax(-1))


class Router(nn.Module):
    """The logits X·Φ with one Φ per task. A ``static`` router has learned logits, equal for all samples."""

    def __init__(self, tasks: int, tokens: int, width: int, slots: int, static: bool) -> None:
        super().__init__()
        self.Phi = None if static else nn.Parameter(torch.randn(tasks, width, slots) / math.sqrt(width))
        self.logits = nn.Parameter(torch.randn(tasks, tokens, slots)) if static else None

    def forward(self, X: Tensor) -> Tensor:
        """X [b, t, d] -> [b, tasks, t, s]"""
        if self.logits is not None:
            return self.logits.expand(X.shape[0], -1, -1, -1)
        return torch.einsum("btd,mds->bmts", X, self.Phi)


class Experts(nn.Module):
    """Small MLPs side by side. Each expert processes its own slots."""

    def __init__(self, experts: int, width: int, hidden: int, residual_init: float = RESIDUAL_INIT_SCALE) -> None:
        super().__init__()
        self.experts = experts
        self.W_in = nn.Parameter(torch.randn(experts, width, hidden) / math.sqrt(width))
        self.b_in = nn.Parameter(torch.zeros(experts, 1, hidden))
        self.W_out = nn.Parameter(residual_init * torch.randn(experts, hidden, width) / math.sqrt(hidden))
        self.b_out = nn.Parameter(torch.zeros(experts, 1, width))

    def forward(self, slots: Tensor) -> Tensor:
        """[..., s, d] -> [..., s, d]"""
        x = slots.unflatten(-2, (self.experts, -1))  # [..., e, p, d]
        x = nn.functional.gelu(torch.einsum("...epd,edf->...epf", x, self.W_in) + self.b_in)
        x = torch.einsum("...epf,efd->...epd", x, self.W_out) + self.b_out
        return x.flatten(-3, -2)


class SoftMoEBlock(nn.Module):
    """A transformer layer whose MLP is a soft mixture of experts."""

    def __init__(
        self,
        tokens: int,
        width: int,
        heads: int,
        experts: int,
        slots: int,
        hidden: int,
        static: bool,
        residual_init: float = RESIDUAL_INIT_SCALE,
    ) -> None:
        """``slots`` is the number of slots per expert."""
        super().__init__()
        self.attention = MSA(width, heads, residual_init)
        self.norm = nn.LayerNorm(width)
        self.router = Router(1, tokens, width, experts * slots, static)
        self.experts = Experts(experts, width, hidden, residual_init)

    def forward(self, X: Tensor) -> Tensor:
        """[b, t, d] -> [b, t, d]"""
        X = self.attention(X)
        x = self.norm(X)
        D, C = route(self.router(x)[:, 0])
        slots = torch.einsum("bts,btd->bsd", D, x)
        return X + torch.einsum("bts,bsd->btd", C, self.experts(slots))
