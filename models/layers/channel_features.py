"""Mateformer's preprocessing: CSI to real features.

Shapes: ``b`` neighbourhoods, ``n`` known fingerprints, ``t`` snapshots of one, ``a`` antennas, ``s`` subcarriers. CSI
is real pairs ``[..., a, s, 2]``, inside planes ``H`` ``[..., a, 2, s]``: real parts, then imaginary ones.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

COMPRESSION = 0.8  # exponent of angle-delay magnitudes: echoes count beside the strongest path
LOUDNESS = 0.35  # how much of a snapshot's own power is taken out: 0 nothing, 0.5 all of it
CLOCK_SCALE = 0.1  # radians a subcarrier: with 32 of them over 40 MHz, 4 m of delay


class Reference(NamedTuple):
    """What a neighbourhood's channels are measured against."""

    scale: Tensor  # [b] RMS of the known CSI
    clock: Tensor  # [b] radians a subcarrier: the known samples' mean delay


class Channel(nn.Module):
    """Preprocessing: CSI to real features, blind to the cell's gain and to each snapshot's common phase.

    References stand many wavelengths apart, so the phase of each path is random from one to the next; the magnitudes
    over angle and delay are not. They must be oversampled: one bin an antenna loses what lies between two bins.

    A second picture is blind to each snapshot's gain and sampling time as well: the snapshot is turned back by its own
    mean delay. Gain and mean delay stand beside it as two numbers, to be trusted as far as the neighbourhood's own
    agree with where they were measured. Square roots under a Hamming window: the side lobes of the strongest path
    would bury the echoes.
    """

    def __init__(self, a: int, s: int, raw: bool, angle_delay: float, aligned: bool) -> None:
        """Which pictures to feed, as in `MateformerConfig`."""
        super().__init__()
        bins_a, bins_s = round(angle_delay * a), round(angle_delay * s)
        self.raw, self.timed, self.aligned = raw, bool(bins_a * bins_s), aligned
        even_a, even_s = _dft(bins_a, torch.ones(a)), _dft(bins_s, torch.ones(s))
        self.register_buffer("dft_a", _over_antennas(even_a), persistent=False)
        self.register_buffer("dft_s", _over_subcarriers(even_s), persistent=False)
        hamming_a, hamming_s = (_dft(size, torch.hamming_window(size, periodic=False)) for size in (a, s))
        self.register_buffer("windowed_a", _over_antennas(hamming_a), persistent=False)
        self.register_buffer("windowed_s", _over_subcarriers(hamming_s), persistent=False)
        self.register_buffer("subcarrier", torch.arange(s, dtype=torch.float32) - s // 2, persistent=False)
        self.features = 2 * a * s * raw + bins_a * bins_s + (a * s + 2) * aligned

    def reference(self, csi: Tensor) -> Reference:
        """Of the known samples' CSI [b, n, a, s, 2]."""
        scale = csi.square().sum(-1).mean((1, 2, 3)).clamp_min(1e-30).sqrt()  # [b]
        clock = self.clock((csi / scale[:, None, None, None, None]).mT)  # [b, n]
        return Reference(scale, torch.atan2(clock.sin().sum(1), clock.cos().sum(1)))

    def forward(self, csi: Tensor, reference: Reference) -> Tensor:
        H = csi.mT / reference.scale[:, None, None, None, None]  # [b, t, a, 2, s]
        power = (2 * H.square().mean((-3, -2, -1))).clamp_min(1e-12)  # [b, t]
        quieter = H * (power**-LOUDNESS)[..., None, None, None]
        features = []
        if self.raw:
            features.append(quieter.mT.flatten(2))  # [b, t, 2as]
        if self.timed:
            magnitudes = self.angle_delay(quieter, self.dft_a, self.dft_s)
            features.append((magnitudes.log() * (COMPRESSION / 2)).exp().flatten(2))  # a power, quicker
        if self.aligned:
            clock = self.clock(H)  # [b, t]
            aligned = self.turned_back(H * power.rsqrt()[..., None, None, None], clock)
            magnitudes = self.angle_delay(aligned, self.windowed_a, self.windowed_s)
            late = clock - reference.clock[:, None]
            late = torch.atan2(late.sin(), late.cos()) / CLOCK_SCALE
            features += [magnitudes.sqrt().sqrt().flatten(2), torch.stack([power.log() / 2, late], dim=-1)]
        return torch.cat(features, dim=-1)

    def clock(self, H: Tensor) -> Tensor:
        """Phase from each subcarrier to the next, radians, of H [..., a, 2, s]: [...]; the delays' circular mean."""
        here, next_ = H[..., :-1], H[..., 1:]
        re = (next_ * here).sum((-3, -2, -1))
        im = (next_[..., 1, :] * here[..., 0, :] - next_[..., 0, :] * here[..., 1, :]).sum((-2, -1))
        return torch.atan2(im, re)

    def turned_back(self, H: Tensor, clock: Tensor) -> Tensor:
        """H [b, t, a, 2, s] less the phase ramp ``clock`` [b, t] over its subcarriers."""
        ramp = (clock[..., None] * self.subcarrier)[..., None, :]  # [b, t, 1, s]
        cos, sin = ramp.cos(), ramp.sin()
        re, im = H[..., 0, :], H[..., 1, :]
        return torch.stack([re * cos + im * sin, im * cos - re * sin], dim=-2)

    def angle_delay(self, H: Tensor, dft_a: Tensor, dft_s: Tensor) -> Tensor:
        """|2-D DFT|² of H [b, t, a, 2, s]: [b, t, angle bins, delay bins]."""
        H = dft_a @ H.flatten(2, 3)  # [b, t, 2 angle bins, s]
        H = H.unflatten(2, (-1, 2)).flatten(3) @ dft_s  # [b, t, angle bins, 2 delay bins]
        re, im = H.chunk(2, dim=-1)
        return re.square() + im.square() + 1e-6


def _dft(bins: int, window: Tensor) -> Tensor:
    """DFT, of unit power, of as many samples as the window [size] has: complex [bins, size].

    The ``bins`` frequencies are even, from -π on.
    """
    frequency = 2 * math.pi * (torch.arange(bins, dtype=torch.float64) - bins // 2) / max(bins, 1)
    turned = torch.polar(torch.ones(1, dtype=torch.float64), -frequency[:, None] * torch.arange(len(window)))
    return turned * window.double() / window.double().norm()


def _over_antennas(dft: Tensor) -> Tensor:
    """Complex [bins, a] as what multiplies real pairs [2a, s] from the left: [2 bins, 2a]."""
    rows = torch.stack([torch.stack([dft.real, -dft.imag], -1), torch.stack([dft.imag, dft.real], -1)], dim=1)
    return rows.flatten(2).flatten(0, 1).float()


def _over_subcarriers(dft: Tensor) -> Tensor:
    """Complex [bins, s] as what multiplies [angles, 2s], real parts and then imaginary ones, from the right."""
    return torch.cat([torch.cat([dft.real, -dft.imag], -1), torch.cat([dft.imag, dft.real], -1)]).mT.float()
