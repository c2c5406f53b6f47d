"""A convolutional model of CSI, the learned rival of LWLM's transformer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CHANNELS = (48, 96, 160, 192)
STEM = (4, 8)  # antennas x subcarriers that the first convolution sees at once; its stride is half of that
GROUPS = 8


class CsiCnn(nn.Module):
    """Plain convolutions, then the mean and the maximum over antennas and subcarriers.

    Any number of antennas and subcarriers has features of the same width. Delay and angle are slopes of the phase over
    subcarriers and antennas. The first convolution sees them in every window of 4 x 8 entries, and the three after it
    in windows of up to 48 x 88.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 2
        for depth, outputs in enumerate(CHANNELS):
            if depth == 0:
                stride = (STEM[0] // 2, STEM[1] // 2)
                convolution = nn.Conv2d(inputs, outputs, STEM, stride, padding=(1, 2))
            else:
                convolution = nn.Conv2d(inputs, outputs, 3, 2 if depth < len(CHANNELS) - 1 else 1, padding=1)
            layers += [convolution, nn.GroupNorm(GROUPS, outputs), nn.GELU()]
            inputs = outputs
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(2 * inputs, width)

    def forward(self, csi: Tensor) -> Tensor:
        """csi [b, a, s, 2] of unit mean power -> features [b, width]"""
        X = self.body(csi.permute(0, 3, 1, 2))  # [b, channels, a / 8, s / 16]
        return self.head(torch.cat([X.mean((-2, -1)), X.amax((-2, -1))], dim=-1))
