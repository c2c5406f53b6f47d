"""Trains a Mateformer, on one CPU or on many GPUs under ``torchrun``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from models.artifact import MateformerManifest, load_artifact
from models.mateformer.data import build_corpus, draw_coarse_positions, draw_neighbourhoods
from models.mateformer.locators import Locate, onnx_locator
from models.mateformer.network import Mateformer
from models.mateformer.recipe import MateformerRecipe
from models.mateformer.symmetry import transform
from models.pipeline.learner import Learner, load_averaged
from models.pipeline.loss import mean_distance, position_loss
from models.radio.impairments import impair_each


class MateformerLearner(Learner):
    """Raises `RecipeChanged`, `ArtifactError` for a bad teacher, and `FileNotFoundError` for a missing path table."""

    recipe: MateformerRecipe

    def __init__(self, recipe: MateformerRecipe, paths: Path, folder: Path, device: torch.device) -> None:
        def build_model() -> Mateformer:
            model = Mateformer(recipe.config())
            if recipe.start is not None:
                load_start_weights(model, load_file(recipe.start))
            return model

        super().__init__(recipe, build_model, folder, device)
        self.teacher: Locate | None = None
        if recipe.teacher is not None:
            artifact = load_artifact(Path(recipe.teacher.artifact), MateformerManifest)
            self.teacher = onnx_locator(artifact, torch.get_num_threads())
        self.corpus = build_corpus(recipe.cells.train, paths, recipe.radio, recipe.seed)
        self.csi = torch.from_numpy(self.corpus.csi).to(device)
        self.positions = torch.from_numpy(self.corpus.positions).to(device)

    def compute_loss(
        self, forward: Callable[..., Tensor], rng: np.random.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The recipe's loss, and the mean error ``error_m`` in metres."""
        recipe, kind = self.recipe, self.recipe.optimiser.loss
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        drawn = draw_neighbourhoods(self.corpus, recipe.batch, rng)
        known, to_infer = (torch.from_numpy(rows).to(self.device) for rows in drawn)
        rows, p = torch.cat([known, to_infer], dim=1), known.shape[1]
        csi, positions = transform(self.csi[rows], self.positions[rows], recipe.symmetry, generator)
        csi = csi.resolve_conj()
        impaired = int(rng.binomial(len(csi), recipe.radios.impaired))
        radios = [recipe.radios.worst.draw_milder(rng) for _ in range(impaired)]
        csi[:impaired] = impair_each(csi[:impaired], radios, recipe.radio.bandwidth, generator)
        pairs, truth = torch.view_as_real(csi), positions[:, p:]
        coarse, accuracy = draw_coarse_positions(truth, recipe.fixes, generator)
        inputs = pairs[:, :p], positions[:, :p], pairs[:, p:], coarse, accuracy
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            estimates = forward(*inputs)
        estimates = estimates.float()
        loss = position_loss(kind, estimates, truth)
        if self.teacher is not None and recipe.teacher is not None:
            answers = torch.from_numpy(self.teacher(*(tensor.cpu().numpy() for tensor in inputs))).to(self.device)
            loss = torch.lerp(loss, position_loss(kind, estimates, answers), recipe.teacher.weight)
        return loss, {"error_m": mean_distance(estimates, truth).mean()}


def load_start_weights(model: Mateformer, weights: dict[str, Tensor]) -> None:
    """Loads the weights of a smaller or equal Mateformer. Inputs that it did not have start without any effect.

    New channel features must come after the old ones. Raises torch's `RuntimeError` for another width or depth.
    """
    own, given = model.embed_H.weight, weights["embed_H.weight"]  # [d, features]
    if given.shape[1] < own.shape[1]:
        weights = weights | {"embed_H.weight": nn.functional.pad(given, (0, own.shape[1] - given.shape[1]))}
    if model.config.coarse:
        weights = {name: value for name, value in model.state_dict().items() if name not in weights} | weights
    model.load_state_dict(weights)


def load_model(folder: Path, recipe: MateformerRecipe) -> Mateformer:
    """The run's averaged weights, on the CPU. Raises what `models.pipeline.learner.load_checkpoint` raises."""
    model = load_averaged(Mateformer(recipe.config()), folder, recipe)
    assert isinstance(model, Mateformer)
    return model
