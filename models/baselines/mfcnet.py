"""MFCNet, the data-to-label rival that reads one subcarrier after the other.

Facts: "CSI of each subcarrier is a fingerprint: multi-carrier cumulative learning based positioning in massive MIMO
systems". An LSTM accumulates what the subcarriers say. Its last state is the position. Widths are ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MfcNet(nn.Module):
    def __init__(self, antennas: int, width: int = 128, layers: int = 2) -> None:
        super().__init__()
        self.cells = nn.LSTM(2 * antennas, width, layers, batch_first=True)
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))

    def forward(self, carriers: Tensor) -> Tensor:
        """carriers [b, s, 2a] -> position [b, 2]"""
        states, _ = self.cells(carriers)  # [b, s, width]
        position: Tensor = self.head(states[:, -1])
        return position


def carrier_sequence(csi: Tensor) -> Tensor:
    """CSI complex [b, a, s] -> the antennas' real and imaginary parts of each subcarrier, [b, s, 2a]."""
    return torch.view_as_real(csi.resolve_conj()).transpose(1, 2).flatten(2)
