"""Trains a rival, or our Mateformer by the same streets, and locates users with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.alloc.recipe import Method, RivalRecipe
from models.alloc.retrieval_task import RetrievalTask
from models.alloc.streets import Survey
from models.alloc.tasks import AT_ONCE, AnalogyTask, InContextTask, RivalTask, SnapshotTask, Users, choose_references
from models.artifact.channel_transform import ChannelTransform
from models.errors import read_yaml
from models.mateformer.data import build_view
from models.mateformer.learner import MateformerLearner
from models.mateformer.learner import load_model as load_mateformer
from models.mateformer.locators import TorchLocator
from models.mateformer.recipe import MateformerRecipe
from models.pipeline.experiment import apply_overrides
from models.pipeline.learner import Learner, is_trained, load_averaged

OURS = Path(__file__).parents[1] / "mateformer" / "recipes" / "mateformer.yaml"
SAMPLE = 256  # fingerprints that our features are scaled by

_Floats = NDArray[np.float32]

# Positions [u, 2] in metres by the fingerprints of a survey: takes the survey, the users, how many fingerprints each is
# compared with, and a seed.
Locate = Callable[[Survey, Users, int, int], _Floats]


class RivalLearner(Learner):
    """Raises `RecipeChanged`."""

    recipe: RivalRecipe

    def __init__(self, recipe: RivalRecipe, task: RivalTask, folder: Path, device: torch.device) -> None:
        self._task = task
        super().__init__(recipe, task.build, folder, device)

    def compute_loss(self, forward: Callable[..., Any], rng: np.random.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        loss = self._task.loss(self.model, rng, self.device)
        return loss, {"mse": loss}


def make_task(recipe: RivalRecipe, surveys: Sequence[Survey]) -> RivalTask:
    """The task of a method that learns, but not of our Mateformer."""
    kinds: dict[str, Callable[..., RivalTask]] = {
        "snapshot": SnapshotTask,
        "analogy": AnalogyTask,
        "in-context": InContextTask,
        "retrieval": RetrievalTask,
    }
    return kinds[recipe.method.task](recipe.method, surveys)


def train(
    recipe: RivalRecipe, surveys: Sequence[Survey], folder: Path, start: dict[str, Tensor] | None, device: torch.device
) -> None:
    """Trains to the recipe's last step, from ``start`` or from random weights. A stopped training resumes."""
    if recipe.method.task == "mateformer":
        ours = write_our_recipe(recipe)
        if is_trained(folder, ours):
            return
        views = [build_view(one.csi, one.positions, one.street.radio, one.street.carrier_frequency) for one in surveys]
        learner: Learner = MateformerLearner(ours, views, folder, device)
    else:
        if is_trained(folder, recipe):
            return
        learner = RivalLearner(recipe, make_task(recipe, surveys), folder, device)
    if start is not None and learner.step == 0:
        for model in (learner.model, learner.averaged.module):
            _take_over(model, start, recipe.fresh_head)
    if recipe.fresh_head:
        _freeze_body(learner.model)
    learner.run()


def load_weights(recipe: RivalRecipe, surveys: Sequence[Survey], folder: Path) -> nn.Module:
    """The averaged weights of a complete training, on the CPU."""
    if recipe.method.task == "mateformer":
        return load_mateformer(folder, write_our_recipe(recipe))
    return load_averaged(make_task(recipe, surveys).build(), folder, recipe)


def load_locator(recipe: RivalRecipe, learned: Sequence[Survey], folder: Path, device: torch.device) -> Locate:
    """What a complete training made of the streets that it ``learned``."""
    if recipe.method.task == "mateformer":
        model = load_mateformer(folder, write_our_recipe(recipe))
        return partial(_locate_by_mateformer, TorchLocator(model, device), recipe.method)
    task = make_task(recipe, learned)
    return partial(task.locate, load_averaged(task.build(), folder, recipe).to(device).eval())


def write_our_recipe(recipe: RivalRecipe) -> MateformerRecipe:
    """The recipe of the shipped Mateformer with this training's streets, seed and settings."""
    content = apply_overrides(read_yaml(OURS), recipe.method.overrides)
    content |= {
        "seed": recipe.seed,
        "radio": content["radio"] | recipe.radio.model_dump(),
        "optimiser": recipe.optimiser.model_dump(),
        "start": None,
    }
    content["cells"] |= {"train": list(recipe.streets)}
    content["batch"] |= {"neighbourhoods": recipe.method.batch}
    content["model"] = recipe.method.model
    return MateformerRecipe.model_validate(content)


def _locate_by_mateformer(
    locator: TorchLocator, method: Method, survey: Survey, users: Users, neighbours: int, seed: int
) -> _Floats:
    """By the paper's retrieval, the fingerprints nearest to the coarse position, which the model is told as well."""
    street = survey.street
    sample = survey.csi[np.linspace(0, len(survey.csi) - 1, min(SAMPLE, len(survey.csi))).astype(int)]
    channel = ChannelTransform.of(
        street.radio.array, street.radio.subcarriers, street.radio.bandwidth, street.carrier_frequency, 0.0, 0.0, sample
    )
    known = locator.describe(channel, survey.csi)
    asked = locator.describe(channel, users.csi / np.complex64(survey.scale))
    rows = choose_references(survey, method, users.coarse, neighbours, seed)
    found = []
    for first in range(0, len(rows), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        chosen = rows[part]
        accuracy = np.full((len(chosen), 1), users.accuracy, np.float32)
        located = locator.locate(
            known[chosen],
            survey.positions[chosen],
            np.zeros(chosen.shape, np.float32),
            asked[part, None],
            users.coarse[part, None],
            accuracy,
        )
        found.append(located.positions[:, 0])
    return np.concatenate(found)


def _take_over(model: nn.Module, start: dict[str, Tensor], fresh_head: bool) -> None:
    """Loads weights; with a fresh head, all but those of the heads."""
    if fresh_head:
        start = {name: weight for name, weight in start.items() if ".heads." not in name}
    model.load_state_dict(start, strict=not fresh_head)


def _freeze_body(model: nn.Module) -> None:
    """Only the heads of a data-to-label model go on learning; the statistics of its layers stay as well."""
    model.net.body.eval()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".heads." in name)
