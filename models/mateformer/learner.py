"""`fingerpost-train fit`: runs a recipe, on one CPU or many GPUs, and goes on exactly where it was stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from models.mateformer.data import build_corpus
from models.mateformer.fixes import coarse_positions
from models.mateformer.neighbourhoods import draw
from models.mateformer.network import Mateformer
from models.mateformer.symmetry import transform
from models.mateformer.teacher import Teacher
from models.pipeline.learner import LOG_FILE, Learner, averaged_model, learning_rate
from models.pipeline.recipe import Optimiser, Recipe
from models.radio.impairments import impair_each

SMALLEST_M = 0.05  # errors that a relative loss does not care to make smaller


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
        self.learner = Learner(self.model, recipe.optimiser)
        self.teacher = None if recipe.teacher is None else Teacher(Path(recipe.teacher.artifact))
        self.corpus = build_corpus(recipe.cells.train, paths, recipe.radio, recipe.seed)
        self.csi = torch.from_numpy(self.corpus.csi).to(device)
        self.positions = torch.from_numpy(self.corpus.positions).to(device)
        self.learner.restore(folder, recipe.digest, device)

    @property
    def step(self) -> int:
        return self.learner.step

    def run(self, until: int | None = None) -> None:
        """Trains to step ``until`` (the recipe's end by default), with a checkpoint every three minutes."""
        until = self.recipe.optimiser.steps if until is None else until
        # The last layer's channel stream moves no position any more: its parameters get no gradient.
        shared = self.world > 1
        forward = DistributedDataParallel(self.model, find_unused_parameters=True) if shared else self.model
        self.learner.train(until, lambda: self._advance(forward), self._log, self.save, quiet=self.rank > 0)

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

        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            estimates = forward(pairs[:, :p], positions[:, :p], pairs[:, p:], coarse, accuracy)
        loss, error = loss_of(settings, estimates.float(), positions[:, p:])
        if self.teacher is not None and recipe.teacher is not None:
            taught = self.teacher.positions(pairs[:, :p], positions[:, :p], pairs[:, p:], coarse, accuracy)
            loss = torch.lerp(loss, loss_of(settings, estimates.float(), taught)[0], recipe.teacher.weight)
        self.learner.descend(loss)
        return error

    def save(self) -> None:
        if self.rank == 0:
            self.learner.save(self.folder, self.recipe.digest)

    def _log(self, error: Tensor, rate: float) -> str:
        line = {
            "step": self.step,
            "error_m": round(float(error), 4),
            "learning_rate": learning_rate(self.recipe.optimiser, self.step - 1),
            "steps_per_s": round(rate, 2),
        }
        if self.rank == 0:
            with (self.folder / LOG_FILE).open("a") as log:
                log.write(json.dumps(line) + "\n")
        return f"error={float(error):.3f} m"


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


def load_model(folder: Path, recipe: Recipe) -> Mateformer:
    """The run's averaged weights, on the CPU; raises what `load_checkpoint` raises."""
    model = averaged_model(Mateformer(recipe.config()), folder, recipe.digest)
    assert isinstance(model, Mateformer)
    return model


def start_distributed(kind: str) -> torch.device:
    """Joins the process group that `torchrun` announces, if any; the device of ``kind`` that this process works on."""
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    return torch.device(kind, int(os.environ.get("LOCAL_RANK", "0"))) if kind == "cuda" else torch.device(kind)
