"""What classical estimators say of the first path, as anchors and features of LWLM's decoders.

A transformer on patches is good at telling which path comes first, and coarse at measuring it; a matched filter is the
other way round. Anchored decoders estimate corrections of the classical estimates. Everything here is a few matrix
products, so it is part of the exported graph.

Shapes: ``b`` snapshots, ``a`` antennas, ``s`` subcarriers, ``g`` delays, ``u`` angles. Delays are in bins of one over
the bandwidth.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

EARLY = 2.0  # bins before time zero: a pulse begins that early
SPAN = 48.0  # bins that are searched; with few subcarriers the last of them repeat the first, which come first
OVERSAMPLING = 8  # delays per bin
ANGLES = 128  # of the beams between endfire and endfire
THRESHOLDS_DB = (18.0, 14.0, 10.0, 5.0)  # below the strongest delay; the first is that of the first path
NOISE_MARGIN = 5.0  # of the lowest threshold over the lower quartile of the spectrum, which is noise
GATE = 1.2  # bins before the first path, where its direction is less disturbed by later paths
# The leading flank of the Hamming window's pulse: bins from d dB below the top to the top are
# FLANK · (√d, d, d√d), within 0.002 bins for d from 1 to 38.
FLANK = (0.37628, 0.003457, -0.0024577)

NUMBERS = len(THRESHOLDS_DB) + 7  # of `Anchors.features`


class Anchors(NamedTuple):
    range: Tensor  # [b] metres
    aoa: Tensor  # [b] radians off broadside
    position: Tensor  # [b, 2] metres forward and left
    features: Tensor  # [b, NUMBERS] of order one


def find_anchors(csi: Tensor, height: Tensor, bin_m: Tensor) -> Anchors:
    """Anchors of normalised csi [b, a, s, 2].

    ``height`` [b] is that of the BS antenna above the user in metres, ``bin_m`` [b] the length of a delay bin.
    """
    fraction = _fractions(csi.shape[2], csi)  # [s]
    window = 0.54 - 0.46 * torch.cos(2 * math.pi * (fraction + 0.5 * fraction[1]))
    H = csi * window[:, None]
    grid = torch.arange(int(SPAN * OVERSAMPLING), device=csi.device) / OVERSAMPLING - EARLY  # [g] bins
    power = _delay_power(H, grid)  # [b, g], the strongest is 1
    noise_db = 10 * (NOISE_MARGIN * power.sort(1).values[:, power.shape[1] // 4]).clamp_min(1e-6).log10()  # [b]
    floors_db = [noise_db.clamp(-threshold, -3.0) for threshold in THRESHOLDS_DB]
    crossings = torch.stack([_first_above(power, grid, floor) for floor in floors_db], dim=-1)  # [b, 4]
    peak, level_db = _first_peak(power, grid, crossings[:, 0])
    above = (level_db - floors_db[0]).clamp(0.5, 38.0)
    first = crossings[:, 0] + FLANK[0] * above.sqrt() + FLANK[1] * above + FLANK[2] * above * above.sqrt()
    strongest = grid[power.argmax(1)]

    cones = torch.stack([_direction(H, delay) for delay in (first - GATE, first, strongest)], dim=-1)  # [b, 3]
    range_m = (bin_m * first).clamp_min(1.0)
    down = (height / range_m).clamp(-0.95, 0.95)
    aoa = torch.asin((cones / (1 - down.square()).sqrt()[:, None]).clamp(-0.999, 0.999))  # [b, 3]
    ground = range_m * (1 - down.square()).sqrt()
    features = torch.cat(
        [
            crossings - first[:, None],
            torch.stack([peak - first, (strongest - first) / 4, level_db / 10, noise_db / 10], dim=-1),
            torch.log2(first.clamp_min(0.25))[:, None],
            (cones[:, 1:] - cones[:, :1]) * 2,
        ],
        dim=-1,
    )
    angle = aoa[:, 0]
    position = ground[:, None] * torch.stack([angle.cos(), angle.sin()], dim=-1)
    return Anchors(range_m, angle, position, features.clamp(-8, 8))


def _fractions(size: int, like: Tensor) -> Tensor:
    """0, 1 / size, 2 / size ... [size]. The exporter cannot divide by a free size, but by a tensor."""
    index = torch.arange(size, device=like.device, dtype=like.dtype)
    return index / (index[-1] + 1)


def _delay_power(H: Tensor, grid: Tensor) -> Tensor:
    """Power over delay of windowed csi [b, a, s, 2], summed over antennas: [b, g]"""
    turn = 2 * math.pi * _fractions(H.shape[2], H)[:, None] * grid  # [s, g]
    cos, sin = turn.cos(), turn.sin()
    re, im = H.unbind(-1)  # [b, a, s]
    power = ((re @ cos - im @ sin).square() + (re @ sin + im @ cos).square()).sum(1)
    return power / power.amax(1, keepdim=True).clamp_min(1e-30)


def _first_above(power: Tensor, grid: Tensor, floor_db: Tensor) -> Tensor:
    """The delay [b] at which the power first rises above floors [b] in dB, between two points of the grid."""
    level_db = 10 * power.clamp_min(1e-9).log10()
    floor_db = floor_db[:, None]
    index = (level_db >= floor_db).float().argmax(1, keepdim=True)  # [b, 1]
    before, after = level_db.gather(1, (index - 1).clamp_min(0)), level_db.gather(1, index)
    part = (floor_db - before) / (after - before).clamp_min(1e-3)
    return (grid[index] - (1 - part.clamp(0, 1)) / OVERSAMPLING)[:, 0]


def _first_peak(power: Tensor, grid: Tensor, crossing: Tensor) -> tuple[Tensor, Tensor]:
    """Delay [b] and level [b] in dB of the first local maximum after the crossing [b], refined by a parabola."""
    inner = power[:, 1:-1]
    is_peak = (inner >= power[:, :-2]) & (inner > power[:, 2:]) & (grid[1:-1] >= crossing[:, None])
    index = 1 + is_peak.float().argmax(1, keepdim=True)  # [b, 1]
    left, middle, right = (power.gather(1, index + step).clamp_min(1e-9).log() for step in (-1, 0, 1))
    shift = 0.5 * (left - right) / (left - 2 * middle + right).clamp_max(-1e-6)
    delay = grid[index] + shift.clamp(-0.5, 0.5) / OVERSAMPLING
    return delay[:, 0], (middle * (10 / math.log(10)))[:, 0]


def _direction(H: Tensor, delay: Tensor) -> Tensor:
    """The strongest direction at one delay [b] of windowed csi [b, a, s, 2].

    Returns the component of the unit direction along the array, [b] in -1 to 1, for half a wavelength's spacing.
    """
    turn = 2 * math.pi * _fractions(H.shape[2], H) * delay[:, None]  # [b, s]
    cos, sin = turn.cos()[:, None], turn.sin()[:, None]
    re, im = H.unbind(-1)  # [b, a, s]
    response_re, response_im = (re * cos - im * sin).sum(-1), (re * sin + im * cos).sum(-1)  # [b, a]
    cone = (2 * torch.arange(ANGLES, device=H.device) + 1) / ANGLES - 1  # [u]
    phase = math.pi * torch.arange(H.shape[1], device=H.device)[:, None] * cone  # [a, u]
    cos, sin = phase.cos(), phase.sin()
    power = (response_re @ cos + response_im @ sin).square() + (response_im @ cos - response_re @ sin).square()
    index = power.argmax(1, keepdim=True)
    left, middle, right = (power.gather(1, (index + step) % ANGLES).clamp_min(1e-12).log() for step in (-1, 0, 1))
    shift = 0.5 * (left - right) / (left - 2 * middle + right).clamp_max(-1e-6)
    return (cone[index] + 2 / ANGLES * shift.clamp(-0.5, 0.5))[:, 0]
