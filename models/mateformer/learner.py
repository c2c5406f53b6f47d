"""Trains a Mateformer, on one CPU or on many GPUs under ``torchrun``."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from models.layers.channel_features import describe_channel
from models.mateformer.data import Drawn, View, draw_coarse_positions, draw_neighbourhoods
from models.mateformer.network import DEGREES_OF_FREEDOM, Estimates, Mateformer
from models.mateformer.recipe import MateformerRecipe, Radios
from models.mateformer.symmetry import transform_csi, transform_positions
from models.pipeline.learner import Learner, load_averaged
from models.pipeline.loss import mean_distance, position_loss
from models.radio.impairments import Impairments, impair

PERFECT = Impairments()
FEW_ANTENNAS = 4  # none of so few is dead


class MateformerLearner(Learner):
    """Learns from ``views``, those of `build_views` as a rule. Raises `RecipeChanged`."""

    recipe: MateformerRecipe

    def __init__(self, recipe: MateformerRecipe, views: list[View], folder: Path, device: torch.device) -> None:
        def build_model() -> Mateformer:
            model = Mateformer(recipe.config())
            if recipe.start is not None:
                model.load_state_dict(load_file(recipe.start))
            return model

        super().__init__(recipe, build_model, folder, device)
        self.views = views

    def compute_loss(
        self, forward: Callable[..., Estimates], rng: np.random.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The recipe's loss, the mean error ``error_m`` in metres, and the negative log-likelihood ``nll``."""
        recipe, batch = self.recipe, self.recipe.batch
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        drawn = draw_neighbourhoods(self.views, batch, rng)
        positions = torch.from_numpy(
            np.stack([one.view.positions[np.concatenate([one.known, one.to_infer])] for one in drawn])
        ).to(self.device)
        positions = transform_positions(positions, recipe.symmetry, generator)
        features = torch.stack([self._describe(one, rng, generator) for one in drawn])
        p = len(drawn[0].known)
        known, truth = positions[:, :p], positions[:, p:]
        sigmas = draw_label_sigmas(len(drawn), batch.mislabelled, batch.label_sigma, generator).to(self.device)
        known = known + sigmas[:, None, None] * torch.randn(known.shape, generator=generator).to(self.device)
        coarse, accuracy = draw_coarse_positions(truth, recipe.fixes, generator)
        told = sigmas[:, None].expand(-1, p)
        if any(one.view.measured for one in drawn):
            own = torch.from_numpy(np.stack([one.label_sigmas() for one in drawn])).to(self.device)
            told = (told.square() + own.square()).sqrt()
        inputs = features[:, :p], known, told, features[:, p:], coarse, accuracy
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            estimates = Estimates(*(part.float() for part in forward(*inputs)))
        nll = negative_log_likelihood(estimates, truth)
        loss = position_loss(recipe.optimiser.loss, estimates.position, truth) + recipe.score * nll.mean()
        return loss, {"error_m": mean_distance(estimates.position, truth).mean(), "nll": nll.mean()}

    def _describe(self, drawn: Drawn, rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        """The features [p + q, F] of one neighbourhood, as its radios report it."""
        view, array = drawn.view, drawn.view.channel.array
        survey, users, stos = draw_radios(self.recipe.radios, array.antennas, rng)
        if view.measured is not None:
            survey, users, stos = PERFECT, PERFECT, view.measured.sto  # its radios are in the CSI already
        rows = np.concatenate([drawn.known, drawn.to_infer])
        csi = torch.view_as_complex(torch.from_numpy(view.csi[rows]).float().to(self.device))
        csi = transform_csi(csi.unflatten(1, (array.lines, array.columns)), self.recipe.symmetry, generator)
        csi = csi.flatten(1, 2)  # [p + q, a, s]
        p = len(drawn.known)
        parts = ((csi[:p], survey), (csi[p:], users))
        csi = torch.cat(
            [one if radio == PERFECT else impair(one, radio, view.bandwidth, generator) for one, radio in parts]
        )
        feeds = view.channel.with_sto(*stos).constants
        constants = {name: torch.from_numpy(value).to(self.device) for name, value in feeds.items()}
        lines = torch.view_as_real(csi.resolve_conj().contiguous()).unflatten(1, (array.lines, array.columns))
        with torch.no_grad():
            return describe_channel(lines, **constants)


def draw_radios(
    radios: Radios, antennas: int, rng: np.random.Generator
) -> tuple[Impairments, Impairments, tuple[float | None, float | None]]:
    """The radios of survey and users of one neighbourhood, and what is told of their sampling-time offsets."""

    def draw() -> Impairments:
        worst = radios.worst if antennas > FEW_ANTENNAS else radios.worst.model_copy(update={"dead_antennas": 0})
        if rng.random() < radios.free:
            worst = worst.model_copy(update={"timing_s": radios.free_timing})
        return worst.draw_milder(rng)

    kind = rng.random()
    if kind < radios.impaired:
        survey = users = draw()
    elif kind < radios.impaired + radios.apart:
        survey, users = draw(), draw()
    elif kind < radios.impaired + radios.apart + radios.surveyed:
        survey, users = PERFECT, draw()
    else:
        survey = users = PERFECT
    told = [None if rng.random() < radios.unknown else one.timing_s / math.sqrt(3) for one in (survey, users)]
    return survey, users, (told[0], told[1])


def draw_label_sigmas(neighbourhoods: int, share: float, largest: float, generator: torch.Generator) -> Tensor:
    """1-sigma errors of the known positions in metres, [b]: zero, or in this share log-uniform up to the largest."""
    drawn, wrong = torch.rand((2, neighbourhoods), generator=generator)
    return torch.where(wrong < share, largest * 0.02**drawn, 0.0)


def negative_log_likelihood(estimates: Estimates, truth: Tensor) -> Tensor:
    """Of the truth [b, q, 2] under the estimates' Student-t distributions, up to a constant, [b, q]."""
    x, y = (truth - estimates.position).unbind(-1)
    a, c, d = estimates.precision.unbind(-1)
    squared = (a * x.square() + 2 * c * x * y + d * y.square()).clamp_min(0)  # Mahalanobis
    freedom = DEGREES_OF_FREEDOM
    return (freedom + 2) / 2 * torch.log1p(squared / freedom) - estimates.determinant.log() / 2


def load_model(folder: Path, recipe: MateformerRecipe) -> Mateformer:
    """The run's averaged weights, on the CPU. Raises what `models.pipeline.learner.load_checkpoint` raises."""
    model = load_averaged(Mateformer(recipe.config()), folder, recipe)
    assert isinstance(model, Mateformer)
    return model
