"""LWLM's three self-supervised objectives. Each trains its own slice of the token embeddings.

- DTI, domain-transformation invariance: the tokens of the spatial-frequency channel determine its delay-angle tensor.
- SF-MCM, spatial-frequency masked channel modelling: the channel is restored from a part of it.
- PICL, position-invariant contrastive learning: two snapshots of one user, by other base stations or in other
  bandwidths, have like embeddings.

Shapes as in `models.lwlm.network`; ``w`` is the width of a slice, ``c`` the configuration's numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.layers.attention import TransformerLayer
from models.lwlm.configuration import CONFIGURATION_SIZE
from models.lwlm.network import LwlmConfig, patch_positions, split_patches

CONTRAST_WIDTH = 32
TEMPERATURE = 0.2
EPSILON = 0.1  # keeps the cosine of DTI stable


class PatchDecoder(nn.Module):
    """Maps one slice of the tokens and the configuration to one patch of real numbers per token."""

    def __init__(self, slice_width: int, config: LwlmConfig) -> None:
        super().__init__()
        self.config = config
        width = config.decoder_width
        self.widen = nn.Linear(slice_width, width)
        self.configuration = nn.Linear(CONFIGURATION_SIZE, width)
        self.layers = nn.Sequential(
            *(TransformerLayer(width, config.heads, 2 * width) for _ in range(config.decoder_layers))
        )
        self.patch = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, config.patch))

    def forward(self, tokens: Tensor, configuration: Tensor, antennas: int, subcarriers: int) -> Tensor:
        """tokens [b, t, w], configuration [b, c] -> patches [b, t, p]"""
        X = self.widen(tokens) + self.configuration(configuration)[:, None]
        positions = patch_positions(antennas, subcarriers, self.config).to(X)  # [t, d]
        return self.patch(self.layers(X + positions[:, : X.shape[-1]]))


class Projector(nn.Module):
    """Maps the mean of PICL's slice and the configuration to the space of the contrast."""

    def __init__(self, slice_width: int, width: int) -> None:
        super().__init__()
        self.widen = nn.Linear(slice_width, width)
        self.configuration = nn.Linear(CONFIGURATION_SIZE, width)
        self.mlp = nn.Sequential(nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, CONTRAST_WIDTH))

    def forward(self, tokens: Tensor, configuration: Tensor) -> Tensor:
        """tokens [b, t, w], configuration [b, c] -> unit vectors [b, 32]"""
        z = self.mlp(self.widen(tokens.mean(1)) + self.configuration(configuration))
        return nn.functional.normalize(z, dim=-1)


def delay_angle(csi: Tensor) -> Tensor:
    """The delay-angle tensor of csi [b, a, s, 2]: its unitary 2-D DFT, [b, angles, delays, 2].

    Angle bin ``a // 2`` is broadside; delay bin k is k / bandwidth.
    """
    H = torch.view_as_complex(csi.contiguous())
    spectrum = torch.fft.ifft(torch.fft.fft(H, dim=1, norm="ortho"), dim=2, norm="ortho")
    return torch.view_as_real(torch.fft.fftshift(spectrum, dim=1))


def draw_mask(snapshots: int, antennas: int, subcarriers: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which half of the antennas, bool [b, a], and which half of the subcarriers, bool [b, s], are masked."""

    def half(size: int) -> Tensor:
        return torch.rand((snapshots, size), generator=generator).argsort(dim=1) < size // 2

    return half(antennas), half(subcarriers)


class MaskToken(nn.Module):
    """Replaces masked antennas and masked subcarriers by learned values, one of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.antenna = nn.Parameter(torch.zeros(2))
        self.subcarrier = nn.Parameter(torch.zeros(2))

    def forward(self, csi: Tensor, antennas: Tensor, subcarriers: Tensor) -> Tensor:
        """csi [b, a, s, 2], masked antennas [b, a] and subcarriers [b, s]"""
        csi = torch.where(subcarriers[:, None, :, None], self.subcarrier, csi)
        return torch.where(antennas[:, :, None, None], self.antenna, csi)


def dti_loss(patches: Tensor, csi: Tensor, config: LwlmConfig) -> Tensor:
    """1 - |complex cosine| between the decoded patches [b, t, p] and the delay-angle tensor of csi [b, a, s, 2]."""
    target = split_patches(delay_angle(csi), config)
    x = torch.view_as_complex(patches.unflatten(-1, (-1, 2)).contiguous()).flatten(1)  # [b, a·s]
    y = torch.view_as_complex(target.unflatten(-1, (-1, 2)).contiguous()).flatten(1)
    inner = (x.conj() * y).sum(-1).abs()
    norms = torch.linalg.vector_norm(x, dim=-1) * torch.linalg.vector_norm(y, dim=-1)
    return (1 - inner / (norms + EPSILON)).mean()


def masked_channel_loss(patches: Tensor, csi: Tensor, config: LwlmConfig) -> Tensor:
    """Mean squared error of all patches [b, t, p] against csi [b, a, s, 2]."""
    return (patches - split_patches(csi, config)).square().mean()


def contrastive_loss(one: Tensor, other: Tensor) -> Tensor:
    """NT-Xent of unit vectors ``one`` and ``other`` [b, e]: row i of one is the only positive of row i of the other."""
    z = torch.cat([one, other])  # [2b, e]
    likeness = z @ z.T / TEMPERATURE
    likeness = likeness.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -torch.inf)
    positive = torch.arange(len(z), device=z.device).roll(len(one))
    return nn.functional.cross_entropy(likeness, positive)
