"""What the decoders know of a snapshot besides its CSI: the radio's configuration, as a few numbers of order one."""

from __future__ import annotations

import torch
from torch import Tensor

CONFIGURATION_SIZE = 4


def describe_configuration(configuration: Tensor, antennas: int, subcarriers: int) -> Tensor:
    """configuration [b, 2] (bandwidth in hertz, height of the BS antenna above the user in metres) -> [b, 4]"""
    bandwidth, height = configuration.unbind(-1)
    size = torch.tensor([antennas / 8, subcarriers / 32], device=configuration.device).log2()
    return torch.stack(
        [(bandwidth / 20e6).log2(), height / 10, *size.expand(configuration.shape[0], 2).unbind(-1)], dim=-1
    )
