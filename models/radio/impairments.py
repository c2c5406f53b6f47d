"""Radio impairments: noise, oscillator phase, sampling-time offset, gain, dead antennas, quantisation.

Each snapshot has its own noise, phase, sampling-time offset and gain. The dead antennas belong to the array and are the
same in every snapshot.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from models.frozen import FrozenModel
from models.radio.channel import subcarrier_offsets


class Impairments(FrozenModel):
    """The impairments of a radio. The defaults are a perfect radio."""

    snr_db: float | None = None  # white noise relative to each snapshot's mean power; None: no noise
    phase: bool = False  # a uniform common phase per snapshot
    timing_s: float = Field(0.0, ge=0)  # sampling-time offset per snapshot, uniform within ± this many seconds
    gain_db: float = Field(0.0, ge=0)  # gain error per snapshot, normal, 1 sigma
    dead_antennas: int = Field(0, ge=0)  # antennas that report zero
    bits: int | None = Field(None, ge=2)  # of each real and imaginary part, full scale at the snapshot's peak

    def draw_milder(self, rng: np.random.Generator) -> Impairments:
        """Draws a radio between a perfect one and this one."""

        def sometimes() -> bool:
            return bool(rng.random() < 0.5)

        return Impairments(
            snr_db=None if self.snr_db is None else self.snr_db - 30 * math.log10(max(rng.random(), 1e-2)),
            phase=self.phase and sometimes(),
            timing_s=self.timing_s * math.sqrt(rng.random()),  # the hardest to learn, so rarely small
            gain_db=self.gain_db * rng.random() * sometimes(),
            dead_antennas=int(rng.integers(self.dead_antennas + 1)),
            bits=self.bits if sometimes() else None,
        )


def impair(csi: Tensor, impairments: Impairments, bandwidth: float, generator: torch.Generator) -> Tensor:
    """Snapshots of one array, complex64 [t, antennas, subcarriers], as this radio reports them. Bandwidth in hertz."""
    return impair_each(csi[None], [impairments], bandwidth, generator)[0]


def impair_each(
    csi: Tensor, impairments: Sequence[Impairments], bandwidth: float, generator: torch.Generator
) -> Tensor:
    """`impair` for many arrays at once, each with its own radio: csi complex64 [b, t, antennas, subcarriers]."""
    b, t, a, s = csi.shape
    device = csi.device

    def each(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None, None]

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(shape, generator=generator).to(device) - 1

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    offset = each([one.timing_s for one in impairments]) * uniform(b, t, 1, 1)  # seconds
    hertz = torch.from_numpy(subcarrier_offsets(s, bandwidth)).float().to(device)
    phase = math.pi * each([float(one.phase) for one in impairments]) * uniform(b, t, 1, 1)
    gain = 10 ** (each([one.gain_db for one in impairments]) * normal(b, t, 1, 1) / 20)
    csi = csi * torch.polar(gain.expand(b, t, 1, s), phase - 2 * math.pi * offset * hertz)

    if any(one.snr_db is not None for one in impairments):
        below = [math.inf if one.snr_db is None else one.snr_db for one in impairments]
        power = csi.abs().square().mean((-2, -1), keepdim=True)
        sigma = (power / 2).sqrt() * 10 ** (-each(below) / 20)  # of the real and of the imaginary part
        csi = csi + torch.complex(sigma * normal(b, t, a, s), sigma * normal(b, t, a, s))
    if any(one.dead_antennas for one in impairments):
        order = torch.rand((b, a), generator=generator).argsort(dim=1).to(device)
        dead = order < torch.tensor([one.dead_antennas for one in impairments], device=device)[:, None]
        csi = csi.masked_fill(dead[:, None, :, None], 0)
    if any(one.bits is not None for one in impairments):
        levels = each([math.inf if one.bits is None else 2 ** (one.bits - 1) - 1 for one in impairments])
        pairs = torch.view_as_real(csi)
        step = (pairs.abs().amax((-3, -2, -1), keepdim=True)[..., 0] / levels)[..., None]
        csi = torch.view_as_complex(torch.where(step > 0, (pairs / step.clamp_min(1e-38)).round() * step, pairs))
    return csi
