"""Soft mixture of experts (Puigcerver et al.): each expert hears weighted means of all tokens, each token all experts.

Shapes: ``b`` samples, ``t`` tokens, ``d`` width, ``e`` experts, ``p`` slots an expert, ``s = e p`` slots, ``f`` width
inside an expert; ``...`` stands for tasks, where there are any.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

# What a residual branch adds at first must not drown the encoders' tokens: its last layer starts at a tenth of the
# usual weights. With all of them, mixtures of experts are twice as far off after a short training.
QUIET = 0.1


def quiet(linear: nn.Linear) -> nn.Linear:
    """The last layer of a residual branch, its first weights made small."""
    with torch.no_grad():
        linear.weight.mul_(QUIET)
        linear.bias.zero_()
    return linear


class Routing(NamedTuple):
    """Who hears whom."""

    dispatch: Tensor  # D [b, ..., t, s] sums to one over the tokens
    combine: Tensor  # C [b, ..., t, s] sums to one over the slots


def route(logits: Tensor) -> Routing:
    """Both softmaxes of X·Φ [b, ..., t, s]."""
    return Routing(logits.softmax(-2), logits.softmax(-1))


class Router(nn.Module):
    """X·Φ, one Φ a task; or, ``static``, logits that no sample changes, one a token."""

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
    """Light MLPs side by side, each for its own slots."""

    def __init__(self, experts: int, width: int, hidden: int) -> None:
        super().__init__()
        self.experts = experts
        self.W_in = nn.Parameter(torch.randn(experts, width, hidden) / math.sqrt(width))
        self.b_in = nn.Parameter(torch.zeros(experts, 1, hidden))
        self.W_out = nn.Parameter(QUIET * torch.randn(experts, hidden, width) / math.sqrt(hidden))
        self.b_out = nn.Parameter(torch.zeros(experts, 1, width))

    def forward(self, slots: Tensor) -> Tensor:
        """[..., s, d] -> [..., s, d]"""
        x = slots.unflatten(-2, (self.experts, -1))  # [..., e, p, d]
        x = nn.functional.gelu(torch.einsum("...epd,edf->...epf", x, self.W_in) + self.b_in)
        x = torch.einsum("...epf,efd->...epd", x, self.W_out) + self.b_out
        return x.flatten(-3, -2)


class MSA(nn.Module):
    """Multi-head self-attention, pre-norm and residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.QKV = nn.Linear(width, 3 * width)
        self.O = quiet(nn.Linear(width, width))

    def forward(self, X: Tensor) -> Tensor:
        """[b, t, d] -> [b, t, d]"""
        Q, K, V = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.QKV(self.norm(X)).chunk(3, -1))
        mixed = nn.functional.scaled_dot_product_attention(Q, K, V)  # [b, heads, t, d / heads]
        return X + self.O(mixed.transpose(1, 2).flatten(2))


class SoftMoEBlock(nn.Module):
    """A transformer layer whose MLP is a soft mixture of experts."""

    def __init__(
        self, tokens: int, width: int, heads: int, experts: int, slots: int, hidden: int, static: bool
    ) -> None:
        """``slots`` an expert."""
        super().__init__()
        self.attention = MSA(width, heads)
        self.norm = nn.LayerNorm(width)
        self.router = Router(1, tokens, width, experts * slots, static)
        self.experts = Experts(experts, width, hidden)

    def forward(self, X: Tensor) -> Tensor:
        """[b, t, d] -> [b, t, d]"""
        X = self.attention(X)
        x = self.norm(X)
        D, C = route(self.router(x)[:, 0])
        slots = torch.einsum("bts,btd->bsd", D, x)
        return X + torch.einsum("bts,bsd->btd", C, self.experts(slots))
