"""Transformer layers, and how their residual branches are initialised.

Shapes: ``b`` samples, ``t`` tokens, ``d`` width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# By default, the last layer of a residual branch starts at a tenth of its usual weights, so that the first residuals do
# not drown the tokens of the encoders. With full weights, mixtures of experts have twice the error after a short
# training.
RESIDUAL_INIT_SCALE = 0.1


def scale_residual_init(linear: nn.Linear, scale: float) -> nn.Linear:
    """Scales the initial weights of the last layer of a residual branch."""
    with torch.no_grad():
        linear.weight.mul_(scale)
        linear.bias.zero_()
    return linear


class MSA(nn.Module):
    """Multi-head self-attention, pre-norm and residual."""

    def __init__(self, width: int, heads: int, residual_init: float = RESIDUAL_INIT_SCALE) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.QKV = nn.Linear(width, 3 * width)
        self.O = scale_residual_init(nn.Linear(width, width), residual_init)

    def forward(self, X: Tensor) -> Tensor:
        """[b, t, d] -> [b, t, d]"""
        Q, K, V = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.QKV(self.norm(X)).chunk(3, -1))
        mixed = nn.functional.scaled_dot_product_attention(Q, K, V)  # [b, heads, t, d / heads]
        return X + self.O(mixed.transpose(1, 2).flatten(2))


class TransformerLayer(nn.Module):
    """Self-attention and an MLP, both pre-norm and residual."""

    def __init__(self, width: int, heads: int, hidden: int, residual_init: float = RESIDUAL_INIT_SCALE) -> None:
        super().__init__()
        self.attention = MSA(width, heads, residual_init)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, hidden),
            nn.GELU(),
            scale_residual_init(nn.Linear(hidden, width), residual_init),
        )

    def forward(self, X: Tensor) -> Tensor:
        """[b, t, d] -> [b, t, d]"""
        X = self.attention(X)
        return X + self.mlp(X)
