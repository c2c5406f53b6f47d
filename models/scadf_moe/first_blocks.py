"""The L blocks before the last: they see all tokens of a trajectory, as in the paper, or one vertex at a time.

With ``by_vertex``, the tokens of other snapshots come in with the last block. Until then each slot is a mean of the few
tokens of one snapshot, so a mixture of experts transforms each snapshot by itself, as an MLP would.

Shapes as in `models.scadf_moe.trajectory_tokens`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from models.layers.soft_moe import SoftMoEBlock
from models.scadf_moe.trajectory_tokens import ScadfMoEConfig


def first_blocks(config: ScadfMoEConfig, build: Callable[[int], nn.Module]) -> list[nn.Module]:
    """``build`` makes a block [b, tokens, d] -> [b, tokens, d] for a number of tokens."""
    if config.by_vertex:
        blocks = [build(2 * config.tokens) for _ in range(config.blocks)]
        return [VertexBlocks(config.vertices, *blocks)]
    return [build(2 * config.vertices * config.tokens) for _ in range(config.blocks)]


def build_soft_moe_block(config: ScadfMoEConfig, tokens: int) -> SoftMoEBlock:
    return SoftMoEBlock(
        tokens,
        config.width,
        config.heads,
        config.experts,
        config.slots,
        config.hidden,
        config.static,
        config.residual_init,
    )


class VertexBlocks(nn.Sequential):
    """Blocks over the 2 n tokens of each vertex: [b, t, d] -> [b, t, d]"""

    def __init__(self, vertices: int, *blocks: nn.Module) -> None:
        super().__init__(*blocks)
        self.vertices = vertices

    def forward(self, X: Tensor) -> Tensor:
        x = X.unflatten(1, (2, self.vertices, -1)).transpose(1, 2)  # [b, v, 2, n, d]
        x = super().forward(x.flatten(2, 3).flatten(0, 1))  # [b·v, 2n, d]
        x = x.unflatten(0, (-1, self.vertices)).unflatten(2, (2, -1))  # [b, v, 2, n, d]
        return x.transpose(1, 2).flatten(1, 3)
