"""Trains LWLM's decoders, and the encoder with them, on users with known positions."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.baselines.cnn import CsiCnn
from models.lwlm.anchors import find_anchors
from models.lwlm.configuration import describe_configuration
from models.lwlm.decoders import Decoded, Decoders, Fused, fuse, turn_into
from models.lwlm.labels import LabelledUsers, Snapshots
from models.lwlm.network import Encoded, LwlmEncoder, normalise
from models.lwlm.pretraining import require_one_process
from models.lwlm.recipe import LwlmRecipe
from models.pipeline.learner import Learner, load_averaged
from reference_db.path_features import SPEED_OF_LIGHT

FEWEST_STATIONS = 2  # of a fusion
AUGMENTATION_SNR_DB = 25.0  # of the noise that each step adds to the labelled snapshots

# Errors of this size weigh alike in the loss of all tasks together.
RANGE_M, ANGLE, POSITION_M = 10.0, 0.2, 15.0


class CnnEncoder(nn.Module):
    """The CNN that LWLM is compared with, in the place of the encoder: one token, which is also the summary."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cnn = CsiCnn(width)

    def forward(self, csi: Tensor) -> Encoded:
        """csi [b, a, s, 2]"""
        features = self.cnn(csi)
        return Encoded(features, features[:, None])


class Lwlm(nn.Module):
    """Encoder and decoders: what a snapshot says about where its user is."""

    def __init__(self, recipe: LwlmRecipe) -> None:
        super().__init__()
        config = recipe.config()
        self.encoder = LwlmEncoder(config) if recipe.decoding.encoder == "transformer" else CnnEncoder(config.width)
        settings = recipe.decoding
        self.decoders = Decoders(config.width, settings.hidden, settings.anchored, settings.attention)
        self.anchored = settings.anchored

    def forward(self, csi: Tensor, configuration: Tensor) -> tuple[Decoded, Encoded]:
        """csi [b, a, s, 2] of any power and phase, configuration [b, 2]: bandwidth in hertz and height in metres"""
        csi = normalise(csi)
        encoded = self.encoder(csi)
        numbers = describe_configuration(configuration, csi.shape[1], csi.shape[2])
        bin_m = SPEED_OF_LIGHT / configuration[:, 0]
        anchors = find_anchors(csi, configuration[:, 1], bin_m) if self.anchored else None
        return self.decoders(encoded, numbers, bin_m, anchors), encoded


class DecodingLearner(Learner):
    recipe: LwlmRecipe  # as `LwlmRecipe.for_decoders` gives it
    model: Lwlm

    def __init__(
        self,
        recipe: LwlmRecipe,
        labelled: LabelledUsers,
        encoder: LwlmEncoder | None,
        folder: Path,
        device: torch.device,
    ) -> None:
        """``encoder`` is a pretrained one to start from."""

        def build_model() -> nn.Module:
            model = Lwlm(recipe)
            if encoder is not None:
                model.encoder.load_state_dict(encoder.state_dict())
            if recipe.decoding.frozen:
                model.encoder.requires_grad_(False)
            return model

        super().__init__(recipe, build_model, folder, device)
        require_one_process(self.world)
        self.labelled = labelled

    def compute_loss(self, forward: Callable[..., Any], rng: np.random.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """All tasks together. The predicted spreads learn from the errors, but do not change the answers."""
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        drawn = self.labelled.draw(self.recipe.decoding.batch, rng)
        drawn = drawn._replace(csi=vary(drawn.csi, generator))
        decoded = decode(forward, drawn)
        fused = fuse_stations(decoded, drawn, keep_stations(drawn.reached, generator))
        truth, reached = drawn.truth, drawn.reached

        range_error = (decoded.range - truth.range).abs()[reached]
        angle_error = (decoded.aoa - truth.aoa).abs()[reached]
        position_error = distance(decoded.position, truth.position)[reached]
        fused_error = distance(fused.position, drawn.user)
        sight = nn.functional.binary_cross_entropy_with_logits(
            decoded.line_of_sight[reached], truth.line_of_sight[reached].float()
        )
        spread = (
            laplace_surprise(range_error.detach(), decoded.range_sigma[reached]).mean()
            + laplace_surprise(angle_error.detach(), decoded.aoa_sigma[reached]).mean()
            + planar_surprise((truth.position - decoded.position).detach()[reached], decoded.covariance[reached]).mean()
        )
        loss = (
            range_error.mean() / RANGE_M
            + angle_error.mean() / ANGLE
            + position_error.mean() / POSITION_M
            + fused_error.mean() / POSITION_M
            + sight
            + 0.1 * spread
        )
        return loss, {
            "range_m": range_error.mean(),
            "aoa_deg": angle_error.mean() * (180 / math.pi),
            "position_m": position_error.mean(),
            "fused_m": fused_error.mean(),
            "line_of_sight": sight,
        }


def decode(forward: Callable[..., Any], drawn: Snapshots) -> Decoded:
    """The answers for all snapshots, each [b, n, ...]."""
    shape = drawn.csi.shape[:2]
    decoded, _ = forward(drawn.csi.flatten(0, 1), drawn.configuration.flatten(0, 1))
    return Decoded(*(values.unflatten(0, shape) for values in decoded))


def fuse_stations(decoded: Decoded, drawn: Snapshots, kept: Tensor) -> Fused:
    """Joins each user's stations that are ``kept``, bool [b, n], in the frame of the street."""
    positions, covariances = turn_into(decoded.position, decoded.covariance, drawn.yaw, drawn.station)
    return fuse(positions, covariances, decoded.attention.masked_fill(~kept, -torch.inf))


def keep_stations(reached: Tensor, generator: torch.Generator, count: int | None = None) -> Tensor:
    """``count`` random stations of those that reach each user, bool [b, n], or fewer if fewer do. None: two or more."""
    b, n = reached.shape
    order = torch.rand((b, n), generator=generator).masked_fill(~reached, torch.inf).argsort(1).argsort(1)
    most = torch.randint(FEWEST_STATIONS, n + 1, (b, 1), generator=generator) if count is None else count
    return (order < most) & reached


def vary(csi: Tensor, generator: torch.Generator) -> Tensor:
    """Snapshots [b, n, a, s, 2] with more noise."""
    sigma = math.sqrt(0.5) * 10 ** (-AUGMENTATION_SNR_DB / 20)
    return csi + sigma * torch.randn(csi.shape, generator=generator)


def distance(one: Tensor, other: Tensor) -> Tensor:
    """[..., 2], [..., 2] -> [...]"""
    return ((one - other).square().sum(-1) + 1e-4).sqrt()


def laplace_surprise(error: Tensor, sigma: Tensor) -> Tensor:
    """Minus the log density of an absolute error under a Laplace distribution of this standard deviation."""
    scale = sigma / math.sqrt(2)
    return error / scale + (2 * scale).log()


def planar_surprise(error: Tensor, covariance: Tensor) -> Tensor:
    """Minus the log density of errors [b, 2] under an elliptical Laplace distribution of covariances [b, 2, 2]."""
    a, b, d = covariance[:, 0, 0], covariance[:, 0, 1], covariance[:, 1, 1]
    determinant = a * d - b.square()
    x, y = error.unbind(-1)
    squared = (d * x.square() - 2 * b * x * y + a * y.square()) / determinant
    return math.sqrt(3) * (squared + 1e-6).sqrt() + 0.5 * determinant.log()


def load_lwlm(folder: Path, recipe: LwlmRecipe) -> Lwlm:
    """The averaged model of a run of decoders, on the CPU. ``recipe`` as `LwlmRecipe.for_decoders` gives it."""
    model = load_averaged(Lwlm(recipe), folder, recipe)
    assert isinstance(model, Lwlm)
    return model.eval()
