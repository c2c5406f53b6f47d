"""CSI as real-valued features: the angle-delay spectrum, with and without delay compensation.

Shapes: ``b`` neighbourhoods, ``n`` known fingerprints, ``t`` snapshots of a neighbourhood, ``a`` antennas, ``s``
subcarriers. CSI is real pairs ``[..., a, s, 2]``. Inside this module, ``H`` is ``[..., a, 2, s]``: real parts, then
imaginary parts.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

MAGNITUDE_EXPONENT = 0.8  # compresses angle-delay magnitudes, so that echoes count beside the strongest path
POWER_NORMALISATION_EXPONENT = 0.35  # 0 keeps a snapshot's own power, 0.5 removes it
RELATIVE_DELAY_SCALE = 0.1  # radians per subcarrier: 4 m of delay with 32 subcarriers over 40 MHz


class Reference(NamedTuple):
    """What the channels of a neighbourhood are normalised by."""

    scale: Tensor  # [b] RMS of the known CSI
    mean_delay: Tensor  # [b] radians per subcarrier: mean delay of the known samples, their STO included


class ChannelFeatures(nn.Module):
    """CSI -> real features that do not depend on the cell's gain or on the common phase of a snapshot.

    References are many wavelengths apart, so the phase of a path is random from one reference to the next. The
    magnitudes over angle and delay are not. The angle-delay spectrum must be oversampled: with one bin per antenna, a
    path between two bins is lost.

    The delay-compensated spectrum does not depend on a snapshot's gain and sampling-time offset (STO) either: each
    snapshot's own mean delay is removed. Gain and relative delay are added as two numbers, which the model can trust
    as far as they agree with the positions of the neighbourhood. This spectrum has square-root magnitudes and a
    Hamming window, because the side lobes of the strongest path would bury the echoes.
    """

    def __init__(self, a: int, s: int, raw: bool, angle_delay: float, delay_compensated: bool) -> None:
        """Selects the features as in `MateformerConfig`."""
        super().__init__()
        bins_a, bins_s = round(angle_delay * a), round(angle_delay * s)
        self.raw, self.spectrum, self.delay_compensated = raw, bool(bins_a * bins_s), delay_compensated
        even_a, even_s = _dft(bins_a, torch.ones(a)), _dft(bins_s, torch.ones(s))
        self.register_buffer("dft_a", _over_antennas(even_a), persistent=False)
        self.register_buffer("dft_s", _over_subcarriers(even_s), persistent=False)
        hamming_a, hamming_s = (_dft(size, torch.hamming_window(size, periodic=False)) for size in (a, s))
        self.register_buffer("windowed_a", _over_antennas(hamming_a), persistent=False)
        self.register_buffer("windowed_s", _over_subcarriers(hamming_s), persistent=False)
        self.register_buffer("subcarrier", torch.arange(s, dtype=torch.float32) - s // 2, persistent=False)
        self.features = 2 * a * s * raw + bins_a * bins_s + (a * s + 2) * delay_compensated

    def reference(self, csi: Tensor) -> Reference:
        """The reference of a neighbourhood from the known samples' CSI [b, n, a, s, 2]."""
        scale = csi.square().sum(-1).mean((1, 2, 3)).clamp_min(1e-30).sqrt()  # [b]
        delay = mean_delay((csi / scale[:, None, None, None, None]).mT)  # [b, n]
        return Reference(scale, torch.atan2(delay.sin().sum(1), delay.cos().sum(1)))

    def forward(self, csi: Tensor, reference: Reference) -> Tensor:
        """csi [b, t, a, s, 2] -> [b, t, features]"""
        H = csi.mT / reference.scale[:, None, None, None, None]  # [b, t, a, 2, s]
        power = (2 * H.square().mean((-3, -2, -1))).clamp_min(1e-12)  # [b, t]
        normalised = H * (power**-POWER_NORMALISATION_EXPONENT)[..., None, None, None]
        features = []
        if self.raw:
            features.append(normalised.mT.flatten(2))  # [b, t, 2as]
        if self.spectrum:
            power_spectrum = angle_delay_power(normalised, self.dft_a, self.dft_s)
            # exp(log x · c) is a faster power.
            features.append((power_spectrum.log() * (MAGNITUDE_EXPONENT / 2)).exp().flatten(2))
        if self.delay_compensated:
            delay = mean_delay(H)  # [b, t]
            compensated = self.compensate_delay(H * power.rsqrt()[..., None, None, None], delay)
            power_spectrum = angle_delay_power(compensated, self.windowed_a, self.windowed_s)
            relative_delay = delay - reference.mean_delay[:, None]
            relative_delay = torch.atan2(relative_delay.sin(), relative_delay.cos()) / RELATIVE_DELAY_SCALE
            numbers = torch.stack([power.log() / 2, relative_delay], dim=-1)
            features += [power_spectrum.sqrt().sqrt().flatten(2), numbers]
        return torch.cat(features, dim=-1)

    def compensate_delay(self, H: Tensor, delay: Tensor) -> Tensor:
        """Removes the phase ramp ``delay`` [b, t] (radians per subcarrier) from H [b, t, a, 2, s]."""
        ramp = (delay[..., None] * self.subcarrier)[..., None, :]  # [b, t, 1, s]
        cos, sin = ramp.cos(), ramp.sin()
        re, im = H[..., 0, :], H[..., 1, :]
        return torch.stack([re * cos + im * sin, im * cos - re * sin], dim=-2)


def mean_delay(H: Tensor) -> Tensor:
    """The mean delay of H [..., a, 2, s] as its phase slope in radians per subcarrier: [...].

    It is the circular mean of the path delays, shifted by the STO.
    """
    here, next_ = H[..., :-1], H[..., 1:]
    re = (next_ * here).sum((-3, -2, -1))
    im = (next_[..., 1, :] * here[..., 0, :] - next_[..., 0, :] * here[..., 1, :]).sum((-2, -1))
    return torch.atan2(im, re)


def angle_delay_power(H: Tensor, dft_a: Tensor, dft_s: Tensor) -> Tensor:
    """The angle-delay power spectrum |2-D DFT|² of H [b, t, a, 2, s]: [b, t, angle bins, delay bins]."""
    H = dft_a @ H.flatten(2, 3)  # [b, t, 2 angle bins, s]
    H = H.unflatten(2, (-1, 2)).flatten(3) @ dft_s  # [b, t, angle bins, 2 delay bins]
    re, im = H.chunk(2, dim=-1)
    return re.square() + im.square() + 1e-6


def _dft(bins: int, window: Tensor) -> Tensor:
    """The windowed DFT with unit power, complex [bins, size], for a window [size].

    The ``bins`` frequencies are evenly spaced and start at -π.
    """
    frequency = 2 * math.pi * (torch.arange(bins, dtype=torch.float64) - bins // 2) / max(bins, 1)
    turned = torch.polar(torch.ones(1, dtype=torch.float64), -frequency[:, None] * torch.arange(len(window)))
    return turned * window.double() / window.double().norm()


def _over_antennas(dft: Tensor) -> Tensor:
    """A complex DFT [bins, a] as the real matrix [2 bins, 2a] that multiplies [2a, s] from the left."""
    rows = torch.stack([torch.stack([dft.real, -dft.imag], -1), torch.stack([dft.imag, dft.real], -1)], dim=1)
    return rows.flatten(2).flatten(0, 1).float()


def _over_subcarriers(dft: Tensor) -> Tensor:
    """A complex DFT [bins, s] as the real matrix [2s, 2 bins] that multiplies [angle bins, 2s] from the right."""
    return torch.cat([torch.cat([dft.real, -dft.imag], -1), torch.cat([dft.imag, dft.real], -1)]).mT.float()
