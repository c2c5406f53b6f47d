"""A training run: model, moving average, optimiser and step, which a checkpoint saves and restores together."""

from __future__ import annotations

import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from models.errors import TrainerError
from models.pipeline.recipe import BaseRecipe
from models.pipeline.schedule import learning_rate

CHECKPOINT_FILE = "checkpoint.pt"
LOG_FILE = "log.jsonl"
LOG_EVERY_STEPS = 50
CHECKPOINT_EVERY_S = 180.0


class NoSuchDevice(TrainerError):
    """This machine, or this build of PyTorch, lacks the device."""


class CheckpointNotWritten(TrainerError):
    """PyTorch could not write a checkpoint."""


class CheckpointMissing(TrainerError, FileNotFoundError):
    """The run has no checkpoint yet."""


class RecipeChanged(TrainerError):
    """A run folder holds a checkpoint of another recipe."""


class Learner(ABC):
    """One training run in one folder. A family implements `compute_loss`.

    The run resumes from the folder's checkpoint, if there is one. Raises `RecipeChanged` if the checkpoint belongs to
    another recipe. Under ``torchrun``, each process draws its own batches and gradients are averaged.
    """

    def __init__(
        self, recipe: BaseRecipe, build_model: Callable[[], nn.Module], folder: Path, device: torch.device
    ) -> None:
        self.recipe, self.folder, self.device = recipe, folder, device
        self.rank, self.world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        settings = recipe.optimiser
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(recipe.seed)
        self.model = build_model().to(device)
        self.averaged = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(settings.average))
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.name]
        self.optimiser = kind(self.model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
        self.step = 0
        self._restore()

    @abstractmethod
    def compute_loss(self, forward: Callable[..., Any], rng: np.random.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Draws one batch and returns the loss and the figures for the log, all of them scalars.

        ``forward`` calls the model. ``rng`` is the only source of randomness: it is seeded by the step number, so a
        resumed run repeats the run that never stopped.
        """

    def run(self, until: int | None = None) -> None:
        """Trains to step ``until`` (the recipe's last by default) and writes a checkpoint every three minutes."""
        until = self.recipe.optimiser.steps if until is None else until
        self._cut_log()
        forward: Callable[..., Any] = self.model
        if self.world > 1:
            # Parameters whose output is unused get no gradient, such as Mateformer's last channel stream.
            forward = DistributedDataParallel(self.model, find_unused_parameters=True)
        saved = logged = time.monotonic()
        figures: list[dict[str, Tensor]] = []
        with tqdm(total=until, initial=self.step, unit="step", disable=self.rank > 0, mininterval=5) as bar:
            while self.step < until:
                figures.append(self.advance(forward))
                bar.update()
                if self.step % LOG_EVERY_STEPS == 0 or self.step == until:
                    now = time.monotonic()
                    means = {name: float(torch.stack([one[name] for one in figures]).mean()) for name in figures[0]}
                    self._log(means, len(figures) / (now - logged))
                    bar.set_postfix_str(", ".join(f"{name}={value:.3f}" for name, value in means.items()))
                    logged, figures = now, []
                if time.monotonic() - saved > CHECKPOINT_EVERY_S:
                    self.save()
                    saved = time.monotonic()
        self.save()

    def advance(self, forward: Callable[..., Any]) -> dict[str, Tensor]:
        """One optimiser step. Returns the figures of `compute_loss`."""
        settings = self.recipe.optimiser
        loss, figures = self.compute_loss(forward, np.random.default_rng([self.recipe.seed, self.step, self.rank]))
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(settings, self.step)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), settings.gradient_clip)
        self.optimiser.step()
        self.averaged.update_parameters(self.model)
        self.step += 1
        return {name: value.detach() for name, value in figures.items()}

    def save(self) -> None:
        """Writes the checkpoint; only the first process does."""
        if self.rank > 0:
            return
        state = {
            "recipe": self.recipe.digest,
            "step": self.step,
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        save_checkpoint(state, self.folder / CHECKPOINT_FILE)

    def _restore(self) -> None:
        if not (self.folder / CHECKPOINT_FILE).exists():
            return
        state = load_checkpoint(self.folder, self.recipe, self.device)
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]

    def _cut_log(self) -> None:
        """Drops the lines of steps after the last checkpoint, which a killed run made and this one makes again.

        Also a line that the kill cut short.
        """
        path = self.folder / LOG_FILE
        if self.rank == 0 and path.exists():
            lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
            path.write_text("".join(line for line in lines if json.loads(line)["step"] <= self.step))

    def _log(self, figures: dict[str, float], steps_per_s: float) -> None:
        line = {
            "step": self.step,
            **{name: round(value, 4) for name, value in figures.items()},
            "learning_rate": learning_rate(self.recipe.optimiser, self.step - 1),
            "steps_per_s": round(steps_per_s, 2),
        }
        if self.rank == 0:
            with (self.folder / LOG_FILE).open("a") as log:
                log.write(json.dumps(line) + "\n")


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """A file that exists is whole. Raises `CheckpointNotWritten`."""
    partial = path.with_name(path.name + ".partial")
    try:
        torch.save(state, partial)
    except RuntimeError as error:  # torch's own, for every failure
        raise CheckpointNotWritten(f"{partial} cannot be written; is the disk full?") from error
    partial.replace(path)


def load_checkpoint(folder: Path, recipe: BaseRecipe, device: torch.device) -> dict[str, Any]:
    """Raises `RecipeChanged`, and `CheckpointMissing` if the run has no checkpoint yet."""
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        raise CheckpointMissing(f"there is no checkpoint {path}; train the recipe first: fingerpost-train fit")
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    if state["recipe"] != recipe.digest:
        raise RecipeChanged(f"{path} belongs to another recipe; choose another run folder")
    return state


def is_trained(folder: Path, recipe: BaseRecipe) -> bool:
    """Whether a run has reached the recipe's last step. Raises `RecipeChanged`."""
    try:
        step: int = load_checkpoint(folder, recipe, torch.device("cpu"))["step"]
    except FileNotFoundError:
        return False
    return step >= recipe.optimiser.steps


def load_averaged(model: nn.Module, folder: Path, recipe: BaseRecipe) -> nn.Module:
    """A copy of ``model`` with a run's averaged weights, on the CPU. Raises what `load_checkpoint` raises."""
    averaged = AveragedModel(model)
    averaged.load_state_dict(load_checkpoint(folder, recipe, torch.device("cpu"))["averaged"])
    delivered: nn.Module = averaged.module
    return delivered


def choose_device(kind: str) -> torch.device:
    """The device of this name. Raises `NoSuchDevice` where PyTorch cannot use it."""
    try:
        device = torch.device(kind)
    except RuntimeError as error:
        raise NoSuchDevice(f"--device {kind!r} is neither cpu nor cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise NoSuchDevice(f"--device {kind}: PyTorch {torch.__version__} finds no CUDA here; use --device cpu")
    return device


def join_processes(kind: str) -> torch.device:
    """The device of this process. Joins the process group if ``torchrun`` started it. ``kind`` is cpu or cuda.

    Raises `NoSuchDevice`.
    """
    device = choose_device(kind)
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    return torch.device(kind, int(os.environ.get("LOCAL_RANK", "0"))) if kind == "cuda" else device
