"""`fingerpost-train experiment tracks`: what further snapshots of a user are worth, beside a Kalman smoother."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from models.errors import naming, read_yaml
from models.frozen import FrozenModel
from models.mateformer.conditions import PERFECT, STREET
from models.pipeline.experiment import apply_overrides, save_result
from models.radio.walks import SNAPSHOTS
from models.tracks.evaluation import locate_tracks
from models.tracks.recipe import TracksRecipe
from models.tracks.training import WalkLocator, check_tables, digest_located, list_cells, train_network
from models.tracks.walked import Seen, Walked


class Condition(FrozenModel):
    """``accuracy``: 1-sigma error of the fixes on each axis in metres, null for none; ``common``: see `Seen`."""

    label: str
    street: bool = True  # the radio of the street; else a perfect one
    accuracy: float | None = Field(None, gt=0)
    common: float = Field(0.0, ge=0, le=1)

    @property
    def seen(self) -> Seen:
        return Seen(STREET if self.street else PERFECT, self.accuracy, self.common)


class TracksExperiment(FrozenModel):
    family: Literal["tracks"]
    base: str  # recipe, relative to the experiment's file
    overrides: dict[str, Any] = Field(default_factory=dict)
    seeds: list[int] = Field(min_length=1)
    snapshots: list[Annotated[int, Field(ge=1, le=SNAPSHOTS)]] = Field(min_length=1)
    conditions: list[Condition] = Field(min_length=1)

    @model_validator(mode="after")
    def _says_nothing_twice(self) -> TracksExperiment:
        for names in (self.seeds, self.snapshots, [one.label for one in self.conditions]):
            if len(set(names)) < len(names):
                raise ValueError(f"named twice: {', '.join(map(str, names))}")
        return self


def load_experiment(path: Path) -> tuple[TracksExperiment, list[TracksRecipe]]:
    """The experiment, and the recipe of each seed. Raises pydantic's `ValidationError`."""
    with naming(path):
        experiment = TracksExperiment.model_validate(read_yaml(path))
    base = apply_overrides(read_yaml(path.parent / experiment.base), experiment.overrides)
    return experiment, [TracksRecipe.model_validate(base | {"seed": seed}) for seed in experiment.seeds]


def run_experiment(
    experiment: TracksExperiment, recipes: list[TracksRecipe], paths: Path, runs: Path, device: torch.device
) -> Iterator[dict[str, Any]]:
    """Trains each seed, then locates the tracks of the validation and the test cells. Yields each seed's result.

    Resumes after a stop. Raises `PathTablesMissing` and `OtherCarrier` before it trains.
    """
    check_tables(recipes[0], paths)
    located = runs / digest_located(recipes[0], paths)
    for recipe in recipes:
        folder, locator = located / str(recipe.seed), WalkLocator.load(recipe, paths)
        network, motion = train_network(locator, recipe, located / "walks", folder, device)
        validation, test = (
            {cell: _locate_all(locator, cell, experiment.conditions) for cell in list_cells(recipe, split)}
            for split in ("validation", "test")
        )
        result = {"motion": motion.model_dump(), "steps": recipe.optimiser.steps}
        result |= locate_tracks(network, motion, validation, test, experiment.snapshots)
        save_result(result, folder)
        yield result


def _locate_all(locator: WalkLocator, cell: tuple[str, int], conditions: Sequence[Condition]) -> dict[str, Walked]:
    """The walks of a cell by the label of a condition. Each seed draws other noise and other fixes."""
    found = {}
    for one in conditions:
        rng = np.random.default_rng([locator.recipe.seed, cell[1], *cell[0].encode(), *one.label.encode()])
        found[one.label] = locator.locate(cell, one.seen, rng)
    return found
