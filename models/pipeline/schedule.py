"""The learning rate over a run."""

from __future__ import annotations

import math

from models.pipeline.recipe import Optimiser


def learning_rate(optimiser: Optimiser, step: int) -> float:
    """Linear warm-up, then cosine decay to zero or the steps of the ALLoc paper.

    The steps: after the first third of the run, x0.2 at each sixth of the run.
    """
    if step < optimiser.warmup_steps:
        return optimiser.learning_rate * (step + 1) / optimiser.warmup_steps
    if optimiser.schedule == "cosine":
        progress = (step - optimiser.warmup_steps) / max(1, optimiser.steps - optimiser.warmup_steps)
        return optimiser.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
    drops = max(0, math.floor(6 * step / optimiser.steps) - 1)
    return optimiser.learning_rate * 0.2**drops
