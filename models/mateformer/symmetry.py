"""Symmetries of a scenario: changes of a whole neighbourhood that are again a possible neighbourhood.

A network that learnt where things are in one city is lost in the next; one that only ever saw randomly turned and
re-phased versions of each neighbourhood has to learn how to reason from references instead.

- *rotate, mirror*: positions have no preferred direction.
- *ramps*: a phase ramp over the antennas is a turned or displaced array, one over the subcarriers a shifted clock, a
  common phase an oscillator.
- *reverse*: the array mounted upside down.
- *conjugate*: delays and angles mirrored together.

The same change is made to every sample of a neighbourhood, known or to be inferred.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from models.pipeline.recipe import Symmetry


def transform(csi: Tensor, positions: Tensor, symmetry: Symmetry, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One symmetry a neighbourhood: csi complex64 [b, t, a, s], positions float32 [b, t, 2] -> the same shapes."""
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
        phase = (
            2
            * math.pi
            * (
                uniform(b)[:, None, None]
                + uniform(b)[:, None, None] * torch.arange(a, device=csi.device)[:, None]
                + uniform(b)[:, None, None] * torch.arange(s, device=csi.device)
            )
        )  # [b, a, s]
        csi = csi * torch.polar(torch.ones_like(phase), phase)[:, None]
    reverse = (uniform(b) < symmetry.reverse)[:, None, None, None]
    csi = torch.where(reverse, csi.flip(2), csi)
    conjugate = (uniform(b) < symmetry.conjugate)[:, None, None, None]
    return torch.where(conjugate, csi.conj(), csi), positions
