"""Augmentation by symmetries: changes of a whole neighbourhood that give another possible neighbourhood.

A model that learns where things are in one city fails in the next. A model that sees every neighbourhood turned and
re-phased at random must learn to reason from the references instead.

- *rotate, mirror*: positions have no preferred direction.
- *ramps*: a phase ramp over the columns or rows is a turned or tilted array, a phase ramp over the subcarriers an
  offset of the cell's delay origin.
- *reverse*: the array is mounted upside down.

Every sample of a neighbourhood, known or to be inferred, gets the same change.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from models.mateformer.recipe import Symmetry

LARGEST_DELAY_SHIFT = 5.0  # resolutions 1 / bandwidth, to either side; later echoes must stay within the spectrum


def transform_positions(positions: Tensor, symmetry: Symmetry, generator: torch.Generator) -> Tensor:
    """Draws one change per neighbourhood: float32 [b, t, 2] -> same shape."""
    b = len(positions)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).to(positions.device)

    if symmetry.rotate:
        angle = 2 * math.pi * uniform(b)
        rotation = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).view(b, 2, 2)
        centre = positions.mean(1, keepdim=True)
        positions = torch.einsum("btj,bij->bti", positions - centre, rotation)
    if symmetry.mirror:
        flip = torch.where(uniform(b) < 0.5, -1.0, 1.0)
        positions = positions * torch.stack([flip, torch.ones_like(flip)], -1)[:, None]
    return positions


def transform_csi(csi: Tensor, symmetry: Symmetry, generator: torch.Generator) -> Tensor:
    """Draws one change for a neighbourhood: complex64 [t, lines, columns, subcarriers] -> same shape."""
    lines, columns, subcarriers = csi.shape[1:]

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand((), generator=generator)

    if symmetry.ramps:
        shift = LARGEST_DELAY_SHIFT / subcarriers
        cycles = draw(0, 1) * torch.arange(lines)[:, None, None] + draw(0, 1) * torch.arange(columns)[:, None]
        cycles = cycles + draw(-shift, shift) * torch.arange(subcarriers)
        csi = csi * torch.polar(torch.ones_like(cycles), 2 * math.pi * cycles).to(csi.device)
    if symmetry.reverse and float(draw(0, 1)) < symmetry.reverse:
        csi = csi.flip(2)
    return csi
