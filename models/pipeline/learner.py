"""A model on its way: its moving average, its optimiser and its step, which are saved and restored together."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from models.pipeline.recipe import Optimiser

CHECKPOINT_FILE = "checkpoint.pt"
LOG_FILE = "log.jsonl"
LOG_EVERY_STEPS = 50
CHECKPOINT_EVERY_S = 180.0


class RecipeChanged(ValueError):
    """A run folder holds a checkpoint of another recipe."""


class Learner:
    def __init__(self, model: nn.Module, settings: Optimiser) -> None:
        self.model, self.settings = model, settings
        self.averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.average))
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.name]
        self.optimiser = kind(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
        self.step = 0

    def descend(self, loss: Tensor) -> None:
        """One step along the gradient."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.settings, self.step)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.gradient_clip)
        self.optimiser.step()
        self.averaged.update_parameters(self.model)
        self.step += 1

    def train(
        self,
        until: int,
        advance: Callable[[], Tensor],
        log: Callable[[Tensor, float], str],
        save: Callable[[], None],
        quiet: bool = False,
    ) -> None:
        """To step ``until`` by calls of ``advance``, which descends once and returns what there is to see of it.

        ``log`` is given the mean of that over some steps and how many of them a second were made, and returns a word
        for the progress bar; ``save`` is called every three minutes and at the end.
        """
        saved, logged, seen = time.monotonic(), time.monotonic(), []
        bar = tqdm(total=until, initial=self.step, unit="step", disable=quiet, mininterval=5)
        while self.step < until:
            seen.append(advance())
            bar.update()
            if self.step % LOG_EVERY_STEPS == 0 or self.step == until:
                now = time.monotonic()
                bar.set_postfix_str(log(torch.stack(seen).mean(0), len(seen) / (now - logged)))
                logged, seen = now, []
            if time.monotonic() - saved > CHECKPOINT_EVERY_S:
                save()
                saved = time.monotonic()
        bar.close()
        save()

    def save(self, folder: Path, digest: str) -> None:
        """As a checkpoint of the recipe with this digest."""
        state = {
            "recipe": digest,
            "step": self.step,
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        partial = folder / (CHECKPOINT_FILE + ".partial")
        torch.save(state, partial)
        partial.replace(folder / CHECKPOINT_FILE)

    def restore(self, folder: Path, digest: str, device: torch.device) -> None:
        """Goes on from the folder's checkpoint, if there is one. Raises `RecipeChanged`."""
        if not (folder / CHECKPOINT_FILE).exists():
            return
        state = load_checkpoint(folder, digest, device)
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]


def learning_rate(optimiser: Optimiser, step: int) -> float:
    """Cosine to zero after a linear warm-up; or the paper's steps: x0.2 each sixth of the run after the first third."""
    if step < optimiser.warmup_steps:
        return optimiser.learning_rate * (step + 1) / optimiser.warmup_steps
    if optimiser.schedule == "cosine":
        progress = (step - optimiser.warmup_steps) / max(1, optimiser.steps - optimiser.warmup_steps)
        return optimiser.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
    drops = max(0, math.floor(6 * step / optimiser.steps) - 1)
    return optimiser.learning_rate * 0.2**drops


def load_checkpoint(folder: Path, digest: str, device: torch.device) -> dict[str, Any]:
    """Raises `RecipeChanged`, and `FileNotFoundError` where the run has no checkpoint yet."""
    path = folder / CHECKPOINT_FILE
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    if state["recipe"] != digest:
        raise RecipeChanged(f"{path} belongs to another recipe; choose another run folder")
    return state


def averaged_model(model: nn.Module, folder: Path, digest: str) -> nn.Module:
    """A copy of ``model`` with a run's averaged weights, on the CPU; raises what `load_checkpoint` raises."""
    averaged = AveragedModel(model)
    averaged.load_state_dict(load_checkpoint(folder, digest, torch.device("cpu"))["averaged"])
    delivered: nn.Module = averaged.module
    return delivered
