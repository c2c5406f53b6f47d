"""ICLLoc, the in-context rival of ALLoc: a decoder-only transformer over samples and labels in turn (section 0.4).

The sequence is ``H_1, x_1, ..., H_p, x_p, H``. Causal masking and learnable positional embeddings say which label
belongs to which channel. Every channel's token predicts its own position, so one pass trains on all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class InContextTransformer(nn.Module):
    def __init__(self, inputs: int, samples: int, width: int, depth: int, hidden: int, heads: int) -> None:
        """``samples``: most known ones. ``inputs``: real numbers of one CSI."""
        super().__init__()
        self.embed_H, self.embed_x = nn.Linear(inputs, width), nn.Linear(2, width)
        self.places = nn.Parameter(0.02 * torch.randn(2 * samples + 1, width))
        layer = nn.TransformerEncoderLayer(width, heads, hidden, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.output = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2))

    def forward(self, H: Tensor, x: Tensor) -> Tensor:
        """CSI [b, p + 1, F] and the positions [b, p, 2] of all but the last -> positions [b, p + 1, 2] of all.

        The last sample always has the last positional embedding, in training and in use.
        """
        b, samples = H.shape[:2]
        X = self.embed_H(H)  # [b, p + 1, d]
        pairs = torch.stack([X[:, :-1], self.embed_x(x)], dim=2).flatten(1, 2)  # [b, 2p, d]
        sequence = torch.cat([pairs, X[:, -1:]], dim=1)  # [b, 2p + 1, d]
        length = sequence.shape[1]
        causal = nn.Transformer.generate_square_subsequent_mask(length, H.device, H.dtype)
        out = self.layers(sequence + self.places[-length:], mask=causal, is_causal=True)
        positions: Tensor = self.output(out[:, ::2])
        assert positions.shape == (b, samples, 2)
        return positions
