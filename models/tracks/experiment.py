"""`fingerpost-train experiment tracks`: what further snapshots of a user are worth, beside a Kalman smoother."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from safetensors.torch import load_file

from models.artifact import MANIFEST_FILE
from models.errors import naming, read_yaml
from models.frozen import FrozenModel
from models.mateformer.conditions import PERFECT, STREET
from models.mateformer.network import Mateformer
from models.mateformer.recipe import MateformerRecipe, Retrieval
from models.pipeline.experiment import apply_overrides, save_result
from models.pipeline.export import RECIPE_FILE, WEIGHTS_FILE
from models.pipeline.learner import is_trained, load_averaged
from models.radio.cells import digest_tables
from models.radio.path_table import PathTable, require_tables
from models.radio.tracing import OtherCarrier, parse_cells, table_path, walks_path
from models.radio.walks import SNAPSHOTS
from models.tracks.evaluation import choose_motion, locate_tracks
from models.tracks.learner import TrackLearner
from models.tracks.network import TrackFormer
from models.tracks.recipe import ARTIFACTS, TracksRecipe
from models.tracks.walked import Seen, Walked, locate_walks

TUNED_SNAPSHOTS = 5  # of the tracks on which the network's smoother is chosen


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
    require_tables(path for cell in list_cells(recipes[0]) for path in tables_of(paths, cell))
    check_tables(recipes[0], paths)
    located = runs / digest_located(recipes[0], paths)
    for recipe in recipes:
        folder, locator = located / str(recipe.seed), WalkLocator.load(recipe, paths)
        walked = load_training(locator, located / "walks")
        motion = choose_motion(walked.cut(TUNED_SNAPSHOTS))
        if not is_trained(folder, recipe):
            TrackLearner(recipe, walked, motion, folder, device).run()
        network = load_averaged(TrackFormer(recipe.config()), folder, recipe).eval()
        assert isinstance(network, TrackFormer)
        validation, test = (
            {cell: _locate_all(locator, cell, experiment.conditions) for cell in list_cells(recipe, split)}
            for split in ("validation", "test")
        )
        result = {"motion": vars(motion), "steps": recipe.optimiser.steps}
        result |= locate_tracks(network, motion, validation, test, experiment.snapshots)
        save_result(result, folder)
        yield result


@dataclass(frozen=True)
class WalkLocator:
    """A Mateformer, its recipe, and where the traced streets are."""

    model: Mateformer
    retrieval: Retrieval
    recipe: TracksRecipe
    paths: Path

    @classmethod
    def load(cls, recipe: TracksRecipe, paths: Path) -> WalkLocator:
        folder = ARTIFACTS / recipe.artifact
        ours = MateformerRecipe.load(folder / RECIPE_FILE)
        model = Mateformer(ours.config())
        model.load_state_dict(load_file(folder / WEIGHTS_FILE))
        return cls(model.eval(), ours.retrieval, recipe, paths)

    def locate(self, cell: tuple[str, int], seen: Seen, rng: np.random.Generator) -> Walked:
        survey, walks = (PathTable.load(path) for path in tables_of(self.paths, cell))
        return locate_walks(
            self.model,
            survey,
            walks,
            self.recipe.radio,
            self.recipe.cells.references,
            seen,
            self.retrieval.neighbourhood_size,
            self.retrieval.tile_pitch,
            rng,
        )


def load_training(locator: WalkLocator, folder: Path) -> Walked:
    """The walks of the training cells, each located ``draws.each`` times. Keeps those of each cell in a file."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe, parts = locator.recipe, []
    for number, cell in enumerate(list_cells(recipe, "train")):
        file = folder / f"{cell[0]}-{cell[1]:04d}.npz"
        if not file.exists():
            walked = []
            for draw in range(recipe.draws.each):
                rng = np.random.default_rng([number, draw])
                walked.append(locator.locate(cell, draw_seen(recipe, rng), rng))
            partial = file.with_suffix(".partial.npz")
            joined = Walked.join(walked)
            np.savez(partial, **{one.name: getattr(joined, one.name) for one in fields(Walked)})
            partial.rename(file)
        with np.load(file) as stored:
            parts.append(Walked(**{one.name: stored[one.name] for one in fields(Walked)}))
    return Walked.join(parts)


def draw_seen(recipe: TracksRecipe, rng: np.random.Generator) -> Seen:
    draws = recipe.draws
    radio = STREET if rng.random() < draws.street else draws.worst.draw_milder(rng)
    accuracy = float(np.exp(rng.uniform(*np.log(draws.accuracy)))) if rng.random() < draws.known else None
    return Seen(radio, accuracy, common=float(rng.random()), turned=True)


def list_cells(recipe: TracksRecipe, *splits: str) -> list[tuple[str, int]]:
    """The cells of some splits, or of all."""
    chosen = splits or ("train", "validation", "test")
    return [cell for split in chosen for cell in parse_cells(getattr(recipe.cells, split))]


def tables_of(paths: Path, cell: tuple[str, int]) -> tuple[Path, Path]:
    """The path tables of a cell's standing and of its walking users."""
    return table_path(paths, *cell), walks_path(paths, *cell)


def check_tables(recipe: TracksRecipe, paths: Path) -> None:
    """Raises `OtherCarrier` for a cell that was traced at another carrier than the recipe's."""
    wanted = recipe.carrier_frequency
    for cell in list_cells(recipe):
        for path in tables_of(paths, cell):
            traced = PathTable.load(path).site.carrier_frequency
            if not math.isclose(traced, wanted, rel_tol=1e-6):
                raise OtherCarrier(f"{path} is of {traced / 1e9:g} GHz, the recipe of {wanted / 1e9:g} GHz")


def digest_located(recipe: TracksRecipe, paths: Path) -> str:
    """Of all that decides what the training walks look like: recipe, Mateformer and path tables."""
    said = recipe.model_dump(mode="json", include={"artifact", "radio", "carrier_frequency", "cells", "draws"})
    weights = hashlib.sha256((ARTIFACTS / recipe.artifact / MANIFEST_FILE).read_bytes()).hexdigest()
    tables = digest_tables(path for cell in list_cells(recipe, "train") for path in tables_of(paths, cell))
    return hashlib.sha256(json.dumps([said, weights, tables]).encode()).hexdigest()[:12]


def _locate_all(locator: WalkLocator, cell: tuple[str, int], conditions: Sequence[Condition]) -> dict[str, Walked]:
    """The walks of a cell by the label of a condition. Each seed draws other noise and other fixes."""
    found = {}
    for one in conditions:
        rng = np.random.default_rng([locator.recipe.seed, cell[1], *cell[0].encode(), *one.label.encode()])
        found[one.label] = locator.locate(cell, one.seen, rng)
    return found
