"""CSI of any array and grid of subcarriers as features of one size: spectra over direction and delay.

Shapes: ``t`` snapshots, ``l`` lines (the rows of each polarisation), ``c`` columns, ``s`` subcarriers, ``U``
directions, ``V`` elevations, ``T`` delays. Complex values are real pairs. The matrices
of `models.artifact.channel_transform` take pairs interleaved and give all real parts, then all imaginary parts.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from models.artifact.channel_transform import (
    ABSOLUTE_DELAYS,
    DESCRIPTION,
    DIRECTIONS,
    ELEVATION_DELAYS,
    ELEVATIONS,
    RELATIVE_DELAYS,
    SEARCHED_DELAYS,
    STRONGEST_SHARPNESS,
)

POWER_NORMALISATION_EXPONENT = 0.35  # 0 keeps a snapshot's own power, 0.5 removes it
ABSOLUTE_EXPONENT = 0.4  # compresses powers, so that echoes count beside the strongest path; relative ones by 1/4
ABSOLUTE_GAIN, RELATIVE_GAIN = 8.0, 3.0  # bring the spectra to a standard deviation of about one
NOISE_FACTOR = 16.0  # a bin with less than this many times the power of the noise is taken for noise
FLOOR = 1e-6  # power of a bin, relative to that of a snapshot, below which differences do not count

ABSOLUTE = DIRECTIONS * (ABSOLUTE_DELAYS[1] - ABSOLUTE_DELAYS[0])
RELATIVE = DIRECTIONS * (RELATIVE_DELAYS[1] - RELATIVE_DELAYS[0])
ELEVATION = ELEVATIONS * (ELEVATION_DELAYS[1] - ELEVATION_DELAYS[0])
SPECTRA = ABSOLUTE + RELATIVE + ELEVATION
LEVELS = 2  # half the logarithm of the power, and the delay of the strongest path in metres
FEATURES = SPECTRA + LEVELS + DESCRIPTION


def describe_channel(
    csi: Tensor,  # [t, l, c, s, 2]
    over_columns: Tensor,  # [2U, 2c]
    over_lines: Tensor,  # [2 · 2V, 2l]
    sparse_search: Tensor,  # [2s, 2 sparse delays]
    search: Tensor,  # [2s, 2 searched delays]
    absolute: Tensor,  # [2s, 2T]
    relative: Tensor,  # [2s, 2T]
    scale: Tensor,  # [1]
    delay: Tensor,  # [2]
    description: Tensor,  # [11]
) -> Tensor:
    """The features of snapshots of one cell, [t, FEATURES]. Inputs are those of `ChannelTransform.feeds`.

    - Absolute spectrum: power over direction and delay after the cell's delay origin, summed over the lines. It shows
      range wherever the radios are synchronised.
    - Relative spectrum: the same with each snapshot's strongest path at delay zero, and unit power. It does not depend
      on a snapshot's sampling-time offset (STO) and gain.
    - Elevation spectrum: power over elevation and relative delay in the direction of the strongest path.

    Bins that hold nothing but noise are zero in the first two. Neither a snapshot's common phase nor the unit of the
    CSI has an effect.
    """
    H = csi * (1 / scale)
    power = (2 * H.square().mean((1, 2, 3, 4))).clamp_min(1e-12)  # [t]
    beam = find_strongest_beam(H, over_columns, sparse_search)  # [t, l, s, 2]
    cycles = find_strongest_delay(beam, search)  # [t] per subcarrier

    gain = (power ** (-2 * POWER_NORMALISATION_EXPONENT))[:, None, None]
    lines = torch.ones_like(csi[0, :, 0, 0, 0]).sum()  # a tensor, so that the exported graph takes any number
    absolute_power = remove_noise(spectrum(H, absolute, over_columns), lines) * gain  # [t, U, T]
    normalised = 1 / power[:, None, None]
    relative_power = remove_noise(spectrum(turn(H, cycles), relative, over_columns), lines) * normalised  # [t, U, T]
    first, last = (bin - RELATIVE_DELAYS[0] for bin in ELEVATION_DELAYS)
    near = relative.unflatten(1, (2, -1))[..., first:last].flatten(1)  # [2s, 2T]
    rows = spectrum(turn(beam, cycles)[:, None], near, over_lines)  # [t, 2V, T]
    elevation_power = rows.unflatten(1, (2, ELEVATIONS)).sum(1) * normalised  # [t, V, T] of both polarisations

    turns = (cycles - delay[0]) - torch.round(cycles - delay[0])
    levels = torch.stack([power.log() / 2, turns * delay[1]], dim=-1)  # [t, 2]
    parts = [
        ABSOLUTE_GAIN * ((absolute_power + FLOOR).log() * ABSOLUTE_EXPONENT).exp().flatten(1),
        RELATIVE_GAIN * (relative_power + FLOOR).sqrt().sqrt().flatten(1),
        RELATIVE_GAIN * (elevation_power + FLOOR).sqrt().sqrt().flatten(1),
        levels,
        description.expand(csi.shape[0], -1),
    ]
    return torch.cat(parts, dim=-1)


def find_strongest_beam(H: Tensor, over_columns: Tensor, sparse_search: Tensor) -> Tensor:
    """The beam with the highest power over all lines and delays of H [t, l, c, s, 2]: [t, l, s, 2]."""
    strongest = spectrum(H, sparse_search, over_columns).sum(-1).argmax(-1)  # [t] direction
    weights = over_columns[strongest].unflatten(1, (-1, 2))  # [t, c, 2]: the real row of the complex weights w, -w
    by_part = weights.transpose(1, 2)[:, None] @ H.flatten(3)  # [t, l, 2, 2s]: H under Re w and under -Im w
    of_real, of_imaginary = by_part.unflatten(3, (-1, 2)).unbind(2)  # [t, l, s, 2] each
    re, im = of_real[..., 0] + of_imaginary[..., 1], of_real[..., 1] - of_imaginary[..., 0]
    return torch.stack([re, im], dim=-1)


def find_strongest_delay(beam: Tensor, search: Tensor) -> Tensor:
    """The delay of the strongest path of beams [t, l, s, 2] in cycles per subcarrier, [t], between -1/2 and 1/2."""
    re, im = (beam.flatten(2) @ search).chunk(2, dim=-1)  # [t, l, searched delays] each
    power = (re.square() + im.square()).sum(1)
    cubed = (power / power.amax(1, keepdim=True).clamp_min(1e-30)) ** (STRONGEST_SHARPNESS // 2)
    weights = cubed * cubed
    angle = 2 * math.pi * torch.arange(SEARCHED_DELAYS, device=beam.device) / SEARCHED_DELAYS
    return torch.atan2(weights @ angle.sin(), weights @ angle.cos()) / (2 * math.pi)


def turn(H: Tensor, cycles: Tensor) -> Tensor:
    """Removes the delays [t] (cycles per subcarrier) from H [t, ..., s, 2]."""
    index = torch.arange(H.shape[-2], device=H.device, dtype=H.dtype)
    angle = (2 * math.pi * cycles[:, None] * index).reshape(-1, *[1] * (H.ndim - 3), H.shape[-2])
    cos, sin = angle.cos(), angle.sin()
    re, im = H.unbind(-1)
    return torch.stack([re * cos - im * sin, im * cos + re * sin], dim=-1)


def spectrum(H: Tensor, over_band: Tensor, over_array: Tensor) -> Tensor:
    """Mean power over the lines of H [t, l, c, s, 2] after filters over the band [2s, 2T] and the array [2U, 2c].

    Returns [t, U, T]. The band comes first: most arrays have fewer columns than there are directions.
    """
    delays = H.flatten(3) @ over_band  # [t, l, c, 2T]
    beams = over_array @ delays.unflatten(3, (2, -1)).flatten(2, 3)  # [t, l, 2U, T]
    re, im = beams.chunk(2, dim=2)  # [t, l, U, T] each
    return (re.square() + im.square()).mean(1)


def remove_noise(power: Tensor, lines: Tensor) -> Tensor:
    """Subtracts from spectra [t, U, T] what noise alone puts into a bin, at most.

    Thousands of bins of compressed noise would outweigh a few paths. The noise's power is that of the delay with the
    least power over all directions: paths hardly ever fill every delay. The mean over many lines scatters less.
    """
    noise = power.mean(1).amin(1)  # [t]
    most = 1 + (NOISE_FACTOR - 1) * lines.rsqrt()
    return (power - most * noise[:, None, None]).clamp_min(0)
