"""CSI of any array and grid of subcarriers as features of one size: spectra over direction and delay.

Shapes: ``t`` snapshots, ``l`` lines (the rows of each polarisation), ``c`` columns, ``s`` subcarriers, ``U``
directions, ``V`` elevations, ``T`` delays. Complex values are real pairs, with the real parts first, on the axis that
the matrices of `models.artifact.channel_transform` expect.
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
ABSOLUTE_EXPONENT, RELATIVE_EXPONENT = 0.4, 0.25  # compress the powers, so that echoes count beside the strongest path
ABSOLUTE_GAIN, RELATIVE_GAIN = 8.0, 3.0  # bring the spectra to a standard deviation of about one
FLOOR = 1e-6  # power of a bin, relative to that of a snapshot, below which differences do not count

ABSOLUTE = DIRECTIONS * (ABSOLUTE_DELAYS[1] - ABSOLUTE_DELAYS[0])
RELATIVE = DIRECTIONS * (RELATIVE_DELAYS[1] - RELATIVE_DELAYS[0])
ELEVATION = ELEVATIONS * (ELEVATION_DELAYS[1] - ELEVATION_DELAYS[0])
SPECTRA = ABSOLUTE + RELATIVE + ELEVATION
LEVELS = 2  # half the logarithm of the power, and the delay of the strongest path in metres
FEATURES = SPECTRA + LEVELS + DESCRIPTION


def describe_channel(
    csi: Tensor,  # [t, l, c, s, 2]
    over_columns: Tensor,  # [2c, 2U]
    over_lines: Tensor,  # [2l, 2 · 2V]
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

    Neither a snapshot's common phase nor the unit of the CSI has an effect.
    """
    H = csi.transpose(3, 4) / scale  # [t, l, c, 2, s]
    power = (2 * H.square().mean((1, 2, 3, 4))).clamp_min(1e-12)  # [t]
    H = H * power.rsqrt()[:, None, None, None, None]
    beam = find_strongest_beam(H, over_columns)  # [t, l, 2, s]
    cycles = find_strongest_delay(beam, search)  # [t] per subcarrier

    gain = power ** (1 - 2 * POWER_NORMALISATION_EXPONENT)  # [t] the power that the absolute spectrum keeps
    absolute_power = spectrum(H, absolute, over_columns) * gain[:, None, None]  # [t, T, U]
    relative_power = spectrum(turn(H, cycles), relative, over_columns)  # [t, T, U]
    first, last = (bin - RELATIVE_DELAYS[0] for bin in ELEVATION_DELAYS)
    near = relative.unflatten(1, (2, -1))[..., first:last].flatten(1)  # [2s, 2T]
    rows = spectrum(turn(beam, cycles)[:, None], near, over_lines)  # [t, T, 2V]
    elevation_power = rows.unflatten(2, (2, ELEVATIONS)).sum(2)  # [t, T, V] of both polarisations

    turns = (cycles - delay[0]) - torch.round(cycles - delay[0])
    levels = torch.stack([power.log() / 2, turns * delay[1]], dim=-1)  # [t, 2]
    parts = [
        ABSOLUTE_GAIN * compress(absolute_power, ABSOLUTE_EXPONENT).flatten(1),
        RELATIVE_GAIN * compress(relative_power, RELATIVE_EXPONENT).flatten(1),
        RELATIVE_GAIN * compress(elevation_power, RELATIVE_EXPONENT).flatten(1),
        levels,
        description.expand(csi.shape[0], -1),
    ]
    return torch.cat(parts, dim=-1)


def find_strongest_beam(H: Tensor, over_columns: Tensor) -> Tensor:
    """The beam with the highest power over all lines and subcarriers of H [t, l, c, 2, s]: [t, l, 2, s]."""
    by_column = H.permute(0, 1, 4, 3, 2).flatten(3)  # [t, l, s, 2c]
    beams = by_column @ over_columns  # [t, l, s, 2U]
    power = beams.square().sum((1, 2)).unflatten(1, (2, -1)).sum(1)  # [t, U]
    strongest = power.argmax(-1)  # [t]
    weights = over_columns.unflatten(1, (2, -1)).permute(2, 0, 1)[strongest]  # [t, 2c, 2]
    return (by_column @ weights[:, None]).transpose(2, 3)


def find_strongest_delay(beam: Tensor, search: Tensor) -> Tensor:
    """The delay of the strongest path of beams [t, l, 2, s] in cycles per subcarrier, [t], between -1/2 and 1/2."""
    re, im = (beam.flatten(2) @ search).chunk(2, dim=-1)  # [t, l, searched delays] each
    power = (re.square() + im.square()).sum(1)
    weights = (power / power.amax(1, keepdim=True).clamp_min(1e-30)) ** STRONGEST_SHARPNESS
    angle = 2 * math.pi * torch.arange(SEARCHED_DELAYS, device=beam.device) / SEARCHED_DELAYS
    return torch.atan2(weights @ angle.sin(), weights @ angle.cos()) / (2 * math.pi)


def turn(H: Tensor, cycles: Tensor) -> Tensor:
    """Removes the delays [t] (cycles per subcarrier) from H [t, ..., 2, s]."""
    index = torch.arange(H.shape[-1], device=H.device, dtype=H.dtype)
    angle = (2 * math.pi * cycles[:, None] * index).reshape(-1, *[1] * (H.ndim - 3), H.shape[-1])
    cos, sin = angle.cos(), angle.sin()
    re, im = H.select(-2, 0), H.select(-2, 1)
    return torch.stack([re * cos - im * sin, im * cos + re * sin], dim=-2)


def spectrum(H: Tensor, over_band: Tensor, over_array: Tensor) -> Tensor:
    """Mean power over the lines of H [t, l, c, 2, s] after filters over the band [2s, 2T] and the array [2c, 2U].

    Returns [t, T, U]. The band comes first: most arrays have fewer columns than there are directions.
    """
    delays = H.flatten(3) @ over_band  # [t, l, c, 2T]
    delays = delays.unflatten(3, (2, -1)).permute(0, 1, 4, 3, 2).flatten(3)  # [t, l, T, 2c]
    re, im = (delays @ over_array).chunk(2, dim=-1)  # [t, l, T, U] each
    return (re.square() + im.square()).mean(1)


def compress(power: Tensor, exponent: float) -> Tensor:
    """``power ** exponent``; exp(log) is a faster power."""
    return ((power + FLOOR).log() * exponent).exp()
