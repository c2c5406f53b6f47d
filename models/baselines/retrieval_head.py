"""RA-LWLM's head in its plain form: the centroid of the most similar fingerprints, and a learned correction.

Features of a frozen encoder are compared by L2 distance. The positions of the K nearest are averaged with softmax
weights, and a small model that sees the query and the retrieved references corrects the average.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RetrievalHead(nn.Module):
    """Shapes: ``b`` users, ``K`` retrieved references, ``F`` features of a snapshot."""

    def __init__(self, features: int, width: int = 256) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.zeros(()))
        self.compare = nn.Sequential(nn.Linear(2 * features + 2, width), nn.GELU(), nn.Linear(width, width), nn.GELU())
        self.residual = nn.Linear(width, 2)
        nn.init.zeros_(self.residual.weight)
        nn.init.zeros_(self.residual.bias)

    def forward(self, query: Tensor, references: Tensor, positions: Tensor) -> Tensor:
        """query [b, F], references [b, K, F], their positions [b, K, 2] -> position [b, 2], all of one unit."""
        distance = (query[:, None] - references).square().sum(-1)  # [b, K]
        scaled = distance / distance.mean(1, keepdim=True).clamp_min(1e-9)
        weights = torch.softmax(-scaled * self.log_temperature.exp(), dim=1)
        centroid = torch.einsum("bk,bki->bi", weights, positions)
        spread = (positions - centroid[:, None]).square().sum(-1).mean(1).sqrt().clamp_min(1e-3)[:, None, None]
        offsets = (positions - centroid[:, None]) / spread
        seen = torch.cat([query[:, None] - references, references, offsets], dim=-1)  # [b, K, 2F + 2]
        compared = torch.einsum("bk,bkw->bw", weights, self.compare(seen))
        return centroid + self.residual(compared) * spread[:, 0]
