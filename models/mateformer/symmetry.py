"""Augmentation by symmetries: changes of a whole neighbourhood that give another possible neighbourhood.

A model that learns where things are in one city fails in the next. A model that sees every neighbourhood turned and
re-phased at random must learn to reason from the references instead.

- *rotate, mirror*: positions have no preferred direction.
- *ramps*: a phase ramp over the antennas is a turned or displaced array, a phase ramp over the subcarriers a
  sampling-time offset, a common phase an oscillator.
- *reverse*: the array is mounted upside down.
- *conjugate*: delays and angles are mirrored together.

Every sample of a neighbourhood, known or to be inferred, gets the same change.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from models.mateformer.recipe import Symmetry


def transform(csi: Tensor, positions: Tensor, symmetry: Symmetry, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draws one change per neighbourhood: csi complex64 [b, t, a, s], positions float32 [b, t, 2] -> same shapes."""
    b, _, a, s = csi.shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).to(csi.device)

    if symmetry.rotate:
        angle = 2 * math.pi * uniform(b)
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).view(b, 2, 2)
        centre = positions.mean(1, keepdim=True)
        positions = torch.einsum("btj,bij->bti", positions - centre, turn)
    if symmetry.mirror:
        flip = torch.where(uniform(b) < 0.5, -1.0, 1.0)
        positions = positions * torch.stack([flip, torch.ones_like(flip)], -1)[:, None]
    if symmetry.ramps:
        common, per_antenna, per_subcarrier = (uniform(b)[:, None, None] for _ in range(3))
        antennas, subcarriers = torch.arange(a, device=csi.device)[:, None], torch.arange(s, device=csi.device)
        phase = 2 * math.pi * (common + per_antenna * antennas + per_subcarrier * subcarriers)  # [b, a, s]
        csi = csi * torch.polar(torch.ones_like(phase), phase)[:, None]
    reverse = (uniform(b) < symmetry.reverse)[:, None, None, None]
    csi = torch.where(reverse, csi.flip(2), csi)
    conjugate = (uniform(b) < symmetry.conjugate)[:, None, None, None]
    return torch.where(conjugate, csi.conj(), csi), positions
