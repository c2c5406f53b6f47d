"""Pretrains LWLM's encoder on links without labels, by the three objectives at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.errors import TrainerError
from models.lwlm.configuration import describe_configuration
from models.lwlm.data import Links
from models.lwlm.network import LwlmConfig, LwlmEncoder, normalise
from models.lwlm.objectives import (
    MaskToken,
    PatchDecoder,
    Projector,
    contrastive_loss,
    draw_mask,
    dti_loss,
    masked_channel_loss,
)
from models.lwlm.recipe import Configurations, LwlmRecipe
from models.pipeline.learner import Learner, load_averaged


class Pretraining(nn.Module):
    """The encoder and what the objectives add to it. Only the encoder is used afterwards."""

    def __init__(self, config: LwlmConfig) -> None:
        super().__init__()
        dti, sf_mcm, picl = config.slices
        self.config = config
        self.encoder = LwlmEncoder(config)
        self.mask = MaskToken()
        self.delay_angle = PatchDecoder(dti, config)
        self.channel = PatchDecoder(sf_mcm, config)
        self.projector = Projector(picl, config.width)

    def split(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The slices of DTI, SF-MCM and PICL of tokens [b, t, d]."""
        dti, sf_mcm, picl = tokens.split(self.config.slices, dim=-1)
        return dti, sf_mcm, picl


class PretrainingLearner(Learner):
    recipe: LwlmRecipe
    model: Pretraining

    def __init__(self, recipe: LwlmRecipe, links: Links, folder: Path, device: torch.device) -> None:
        super().__init__(recipe, lambda: Pretraining(recipe.config()), folder, device)
        require_one_process(self.world)
        self.links = links

    def compute_loss(self, forward: Callable[..., Any], rng: np.random.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Every user is seen twice, by stations and in configurations of their own."""
        model, weights = self.model, self.recipe.objectives
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        user = torch.randint(self.links.users, (weights.batch,), generator=generator)
        one, one_configuration = self._observe(user, rng, generator)
        other, other_configuration = self._observe(user, rng, generator)
        antennas, subcarriers = one.shape[1:3]

        dti, _, picl = model.split(model.encoder(one).tokens)
        delay_angle = model.delay_angle(dti, one_configuration, antennas, subcarriers)
        loss_dti = dti_loss(delay_angle, one, model.config)

        _, _, other_picl = model.split(model.encoder(other).tokens)
        loss_picl = contrastive_loss(
            model.projector(picl, one_configuration), model.projector(other_picl, other_configuration)
        )

        masked = model.mask(one, *draw_mask(len(one), antennas, subcarriers, generator))
        _, sf_mcm, _ = model.split(model.encoder(masked).tokens)
        channel = model.channel(sf_mcm, one_configuration, antennas, subcarriers)
        loss_sf_mcm = masked_channel_loss(channel, one, model.config)

        loss = weights.dti * loss_dti + weights.sf_mcm * loss_sf_mcm + weights.picl * loss_picl
        return loss, {"dti": loss_dti, "sf_mcm": loss_sf_mcm, "picl": loss_picl}

    def _observe(self, user: Tensor, rng: np.random.Generator, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Snapshots [b, a, s, 2] by random stations, and their configurations [b, 4]."""
        radios = self.recipe.configurations
        antennas, subcarriers = int(rng.choice(radios.antennas)), int(rng.choice(radios.subcarriers))
        bandwidth = draw_bandwidth(radios, len(user), generator)
        turned = (2 * torch.rand(len(user), generator=generator) - 1) * self.recipe.objectives.turn
        station = draw_station(self.links, user, generator)
        csi, configuration, _ = self.links.observe(user, station, antennas, subcarriers, bandwidth, turned)
        csi = add_noise(csi, radios.snr_db, generator)
        return csi.to(self.device), describe_configuration(configuration, antennas, subcarriers).to(self.device)


def require_one_process(processes: int) -> None:
    """Raises `TrainerError` under ``torchrun``."""
    if processes > 1:
        raise TrainerError("lwlm trains in one process: start it without torchrun")


def draw_station(links: Links, user: Tensor, generator: torch.Generator) -> Tensor:
    """A random station [b] among those that reach each user [b]."""
    return (torch.rand(links.reached[user].shape, generator=generator) * links.reached[user]).argmax(1)


def draw_bandwidth(radios: Configurations, snapshots: int, generator: torch.Generator) -> Tensor:
    """Bandwidths [b] in hertz."""
    low, high = radios.bandwidth
    return low * (high / low) ** torch.rand(snapshots, generator=generator)


def add_noise(csi: Tensor, snr_db: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Snapshots [b, a, s, 2] with white noise, normalised."""
    low, high = snr_db
    below_db = low + (high - low) * torch.rand((len(csi), 1, 1, 1), generator=generator)
    sigma = math.sqrt(0.5) * 10 ** (-below_db / 20)  # of the real and of the imaginary part
    return normalise(normalise(csi) + sigma * torch.randn(csi.shape, generator=generator))


def load_encoder(folder: Path, recipe: LwlmRecipe) -> LwlmEncoder:
    """The averaged encoder of a pretraining, on the CPU. Raises what `load_checkpoint` raises."""
    model = load_averaged(Pretraining(recipe.config()), folder, recipe)
    assert isinstance(model, Pretraining)
    return model.encoder
