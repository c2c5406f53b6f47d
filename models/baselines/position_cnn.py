"""The data-to-label rivals CNN and AD_CNN: a convolutional model of one snapshot that puts out a position.

Facts: "CSI-based positioning in massive MIMO systems using convolutional neural networks" (CNN), "Fingerprint-based
localization for massive MIMO-OFDM system with deep convolutional neural networks" (AD_CNN). Widths are ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CHANNELS = (32, 64, 128)
HIDDEN = 256


class PositionCnn(nn.Module):
    """Three convolutions, each halving both axes, and two linear maps of all that is left.

    No pooling over the whole snapshot: where a peak lies is what says where the user is. ``labels`` positions are put
    out at once; more than one for several tasks.
    """

    def __init__(self, inputs: int, antennas: int, subcarriers: int, labels: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        size = [antennas, subcarriers]
        for outputs in CHANNELS:
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs, size = outputs, [(extent + 1) // 2 for extent in size]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs * size[0] * size[1], HIDDEN), nn.ReLU())
        self.heads = nn.ModuleList(nn.Linear(HIDDEN, 2) for _ in range(labels))

    def forward(self, picture: Tensor, head: int = 0) -> Tensor:
        """picture [b, inputs, a, s] -> position [b, 2]"""
        position: Tensor = self.heads[head](self.body(picture))
        return position


def csi_planes(csi: Tensor) -> Tensor:
    """CSI complex [b, a, s] -> real and imaginary parts [b, 2, a, s], the input of CNN."""
    return torch.view_as_real(csi.resolve_conj()).permute(0, 3, 1, 2)


def angle_delay_planes(csi: Tensor) -> Tensor:
    """CSI complex [b, a, s] -> amplitude over direction and delay [b, 1, a, s], the input of AD_CNN.

    The discrete Fourier transform over antennas and, inverse, over subcarriers, with unitary scale.
    """
    directions = torch.fft.fft(csi, dim=1, norm="ortho")
    return torch.fft.ifft(directions, dim=2, norm="ortho").abs()[:, None]
