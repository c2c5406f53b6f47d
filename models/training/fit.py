"""`fingerpost-train fit`: runs a recipe, on one CPU or many GPUs, and goes on exactly where it was stopped."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from models.mateformer import Mateformer
from models.radio.impairments import impair_each
from models.training.corpus import build_corpus
from models.training.fixes import coarse_positions
from models.training.neighbourhoods import draw
from models.training.recipe import Optimiser, Recipe
from models.training.symmetry import transform
from models.training.teacher import Teacher

CHECKPOINT_FILE = "checkpoint.pt"
LOG_FILE = "log.jsonl"
LOG_EVERY_STEPS = 50
CHECKPOINT_EVERY_S = 180.0
SMALLEST_M = 0.05  # errors that a relative loss does not care to make smaller


class RecipeChanged(ValueError):
    """A run folder holds a checkpoint of another recipe."""


def learning_rate(optimiser: Optimiser, step: int) -> float:
    """Cosine to zero after a linear warm-up; or the paper's steps: x0.2 each sixth of the run after the first third."""
    if step < optimiser.warmup_steps:
        return optimiser.learning_rate * (step + 1) / optimiser.warmup_steps
    if optimiser.schedule == "cosine":
        progress = (step - optimiser.warmup_steps) / max(1, optimiser.steps - optimiser.warmup_steps)
        return optimiser.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
    drops = max(0, math.floor(6 * step / optimiser.steps) - 1)
    return optimiser.learning_rate * 0.2**drops


def loss_of(optimiser: Optimiser, estimates: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """The recipe's loss and the mean error (m) of estimates against positions, both [b, q, 2].

    ``relative`` gives a neighbourhood that hardly tells places apart no more say than one that tells them well.
    """
    squared = (estimates - positions).square().sum(-1)
    distances = (squared + 1e-6).sqrt().mean(1)  # [b]
    match optimiser.loss:
        case "mse":
            loss = squared.mean() / 2
        case "distance":
            loss = distances.mean()
        case "relative":
            loss = (distances + SMALLEST_M).log().mean()
    return loss, distances.mean().detach()


class Fit:
    """One training run in one folder: model, optimiser and step, saved and restored together."""

    def __init__(self, recipe: Recipe, paths: Path, folder: Path, device: torch.device) -> None:
        self.recipe, self.folder, self.device = recipe, folder, device
        self.rank, self.world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(recipe.seed)
        self.model = Mateformer(recipe.config()).to(device)
        if recipe.start is not None:
            start_from(self.model, load_file(recipe.start))
        self.averaged = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(recipe.optimiser.average))
        self.optimiser = _optimiser(recipe.optimiser, self.model)
        self.teacher = None if recipe.teacher is None else Teacher(Path(recipe.teacher.artifact))
        self.step = 0
        self.corpus = build_corpus(recipe.cells.train, paths, recipe.radio, recipe.seed)
        self.csi = torch.from_numpy(self.corpus.csi).to(device)
        self.positions = torch.from_numpy(self.corpus.positions).to(device)
        self._restore()

    def run(self, until: int | None = None) -> None:
        """Trains to step ``until`` (the recipe's end by default), with a checkpoint every three minutes."""
        until = self.recipe.optimiser.steps if until is None else until
        # The last layer's channel stream moves no position any more: its parameters get no gradient.
        shared = self.world > 1
        forward = DistributedDataParallel(self.model, find_unused_parameters=True) if shared else self.model
        saved, logged, errors = time.monotonic(), time.monotonic(), []
        bar = tqdm(total=until, initial=self.step, unit="step", disable=self.rank > 0, mininterval=5)
        while self.step < until:
            errors.append(self._advance(forward))
            bar.update()
            if self.step % LOG_EVERY_STEPS == 0 or self.step == until:
                error, now = float(torch.stack(errors).mean()), time.monotonic()
                bar.set_postfix(error=f"{error:.3f} m")
                self._log(error, len(errors) / (now - logged))
                logged, errors = now, []
            if time.monotonic() - saved > CHECKPOINT_EVERY_S:
                self.save()
                saved = time.monotonic()
        bar.close()
        self.save()

    def _advance(self, forward: Callable[..., Tensor] | nn.Module) -> Tensor:
        recipe, settings = self.recipe, self.recipe.optimiser
        # All randomness of a step follows from its number, so that a resumed run repeats the one never stopped.
        seed = [recipe.seed, self.step, self.rank]
        rng = np.random.default_rng(seed)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        known, to_infer = (torch.from_numpy(rows).to(self.device) for rows in draw(self.corpus, recipe.batch, rng))
        rows = torch.cat([known, to_infer], dim=1)
        csi, positions = transform(self.csi[rows], self.positions[rows], recipe.symmetry, generator)
        csi = csi.resolve_conj()
        impaired = int(rng.binomial(len(csi), recipe.radios.impaired))
        radios = [recipe.radios.worst.milder(rng) for _ in range(impaired)]
        csi[:impaired] = impair_each(csi[:impaired], radios, recipe.radio.bandwidth, generator)
        pairs, p = torch.view_as_real(csi), known.shape[1]
        coarse, accuracy = coarse_positions(positions[:, p:], recipe.fixes, generator)

        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(settings, self.step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            estimates = forward(pairs[:, :p], positions[:, :p], pairs[:, p:], coarse, accuracy)
        loss, error = loss_of(settings, estimates.float(), positions[:, p:])
        if self.teacher is not None and recipe.teacher is not None:
            taught = self.teacher.positions(pairs[:, :p], positions[:, :p], pairs[:, p:], coarse, accuracy)
            loss = torch.lerp(loss, loss_of(settings, estimates.float(), taught)[0], recipe.teacher.weight)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), settings.gradient_clip)
        self.optimiser.step()
        self.averaged.update_parameters(self.model)
        self.step += 1
        return error

    def save(self) -> None:
        if self.rank > 0:
            return
        state = {
            "recipe": self.recipe.digest,
            "step": self.step,
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        partial = self.folder / (CHECKPOINT_FILE + ".partial")
        torch.save(state, partial)
        partial.replace(self.folder / CHECKPOINT_FILE)

    def _restore(self) -> None:
        if not (self.folder / CHECKPOINT_FILE).exists():
            return
        state = load_checkpoint(self.folder, self.recipe, self.device)
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]

    def _log(self, error: float, rate: float) -> None:
        if self.rank > 0:
            return
        line = {
            "step": self.step,
            "error_m": round(error, 4),
            "learning_rate": learning_rate(self.recipe.optimiser, self.step - 1),
            "steps_per_s": round(rate, 2),
        }
        with (self.folder / LOG_FILE).open("a") as log:
            log.write(json.dumps(line) + "\n")


def start_from(model: Mateformer, weights: dict[str, Tensor]) -> None:
    """Loads the weights of a network of the same size; what it was not fed begins without a say.

    New channel features must come after the old ones. Raises torch's `RuntimeError` for another size.
    """
    own, given = model.embed_H.weight, weights["embed_H.weight"]  # [d, features]
    if given.shape[1] < own.shape[1]:
        weights = weights | {"embed_H.weight": nn.functional.pad(given, (0, own.shape[1] - given.shape[1]))}
    if model.config.coarse:
        weights = {name: value for name, value in model.state_dict().items() if name not in weights} | weights
    model.load_state_dict(weights)


def load_checkpoint(folder: Path, recipe: Recipe, device: torch.device) -> dict[str, Any]:
    """Raises `RecipeChanged`, and `FileNotFoundError` where the run has no checkpoint yet."""
    path = folder / CHECKPOINT_FILE
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    if state["recipe"] != recipe.digest:
        raise RecipeChanged(f"{path} belongs to another recipe; choose another run folder")
    return state


def load_model(folder: Path, recipe: Recipe) -> Mateformer:
    """The run's averaged weights, on the CPU; raises what `load_checkpoint` raises."""
    averaged = AveragedModel(Mateformer(recipe.config()))
    averaged.load_state_dict(load_checkpoint(folder, recipe, torch.device("cpu"))["averaged"])
    model: Mateformer = averaged.module
    return model


def start_distributed(kind: str) -> torch.device:
    """Joins the process group that `torchrun` announces, if any; the device of ``kind`` that this process works on."""
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    return torch.device(kind, int(os.environ.get("LOCAL_RANK", "0"))) if kind == "cuda" else torch.device(kind)


def _optimiser(settings: Optimiser, model: nn.Module) -> torch.optim.Optimizer:
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.name]
    return kind(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
