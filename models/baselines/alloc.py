"""ALLoc's Mateformer as the paper has it, without our additions: eqs. 8 and 9, its Table 2 and nothing else.

Shapes: ``b`` neighbourhoods, ``p`` known samples, ``q`` samples to infer, ``t = p + q`` tokens, ``d`` width, ``h``
heads, ``e = d / h``. Positions are in units of `POSITION_UNIT` from the base station.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

POSITION_UNIT = 10.0  # metres: inputs and outputs of the linear maps are of the order of one


class AnalogyLayer(nn.Module):
    """``h += MHead_H(h, h, h)`` and ``x += MHead_Hx(h, h, x)``, pre-norm, then a feed-forward network each."""

    def __init__(self, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_h, self.norm_x = nn.LayerNorm(width), nn.LayerNorm(width)
        self.Q_H, self.K_H, self.V_H, self.O_H = (nn.Linear(width, width) for _ in range(4))
        self.Q_Hx, self.K_Hx, self.V_Hx, self.O_Hx = (nn.Linear(width, width) for _ in range(4))
        self.FFN_H, self.FFN_Hx = (
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
            for _ in range(2)
        )

    def forward(self, h: Tensor, x: Tensor, known: int) -> tuple[Tensor, Tensor]:
        """Streams [b, t, d]; the first ``known`` tokens are the samples that every token may attend to."""
        H, X = self.norm_h(h), self.norm_x(x)
        h = h + self.O_H(self._attend(self.Q_H(H), self.K_H(H[:, :known]), self.V_H(H[:, :known])))
        x = x + self.O_Hx(self._attend(self.Q_Hx(H), self.K_Hx(H[:, :known]), self.V_Hx(X[:, :known])))
        return h + self.FFN_H(h), x + self.FFN_Hx(x)

    def _attend(self, Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
        Q, K, V = (part.unflatten(-1, (self.heads, -1)) for part in (Q, K, V))  # [b, t, h, e]
        weights = torch.einsum("bthe,bphe->bhtp", Q, K) / math.sqrt(Q.shape[-1])
        return torch.einsum("bhtp,bphe->bthe", weights.softmax(-1), V).flatten(2)


class AllocMateformer(nn.Module):
    def __init__(self, inputs: int, width: int, depth: int, hidden: int, heads: int) -> None:
        """``inputs``: real numbers of one CSI, 2 · antennas · subcarriers."""
        super().__init__()
        self.embed_H, self.embed_x = nn.Linear(inputs, width), nn.Linear(2, width)
        self.is_known, self.to_infer = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))
        self.layers = nn.ModuleList(AnalogyLayer(width, hidden, heads) for _ in range(depth))
        self.output = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2))
        nn.init.normal_(self.is_known, std=0.02)
        nn.init.normal_(self.to_infer, std=0.02)

    def forward(self, H_known: Tensor, x_known: Tensor, H: Tensor) -> Tensor:
        """CSI [b, p, F] with positions [b, p, 2], and CSI [b, q, F] -> positions [b, q, 2]."""
        p = x_known.shape[1]
        h = self.embed_H(torch.cat([H_known, H], dim=1))  # [b, t, d]
        x_init = x_known.mean(1, keepdim=True).expand(-1, H.shape[1], -1)
        x = torch.cat([self.embed_x(x_known) + self.is_known, self.embed_x(x_init) + self.to_infer], dim=1)
        for layer in self.layers:
            h, x = layer(h, x, p)
        position: Tensor = self.output(x[:, p:])
        return position
