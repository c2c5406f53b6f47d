"""Coarse positions of the users to infer, as GNSS or any other first guess would give them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from models.pipeline.recipe import Fixes


def coarse_positions(positions: Tensor, fixes: Fixes | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Around true positions [b, q, 2], metres: coarse ones [b, q, 2] and their 1-sigma errors an axis [b, q].

    Infinite errors mark users without one, whose coarse position is the origin. ``generator`` lives on the CPU.
    """
    if fixes is None:
        return torch.zeros_like(positions), torch.full_like(positions[..., 0], math.inf)
    low, high = (math.log(accuracy) for accuracy in fixes.accuracy)
    drawn, kept = torch.rand((2, *positions.shape[:2]), generator=generator).to(positions.device)
    noise = torch.randn(positions.shape, generator=generator).to(positions.device)
    accuracy = torch.where(kept < fixes.known, (low + (high - low) * drawn).exp(), math.inf)
    return torch.where(accuracy.isfinite()[..., None], positions + accuracy[..., None] * noise, 0.0), accuracy
