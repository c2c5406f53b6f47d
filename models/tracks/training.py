"""From recipe and path tables to a trained track network: the walks that it learns from, and its training."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file

from models.artifact import MANIFEST_FILE
from models.artifact.smoother import Motion
from models.mateformer.conditions import STREET
from models.mateformer.locators import TorchLocator
from models.mateformer.network import Mateformer
from models.mateformer.recipe import MateformerRecipe, Retrieval
from models.pipeline.export import RECIPE_FILE, WEIGHTS_FILE
from models.pipeline.learner import is_trained, load_averaged
from models.radio.cells import digest_tables
from models.radio.path_table import PathTable, require_tables
from models.radio.tracing import OtherCarrier, parse_cells, table_path, walks_path
from models.tracks.evaluation import choose_motion
from models.tracks.learner import TrackLearner
from models.tracks.network import TrackFormer
from models.tracks.recipe import ARTIFACTS, TracksRecipe
from models.tracks.walked import Seen, Walked, locate_walks

TUNED_SNAPSHOTS = 5  # of the tracks on which the network's smoother is chosen


class Trained(NamedTuple):
    network: TrackFormer
    motion: Motion


def train_network(locator: WalkLocator, recipe: TracksRecipe, walks: Path, run: Path, device: torch.device) -> Trained:
    """Locates the training walks into the folder ``walks`` and trains on them in ``run``. Resumes after a stop."""
    walked = load_training(locator, walks)
    motion = choose_motion(walked.cut(TUNED_SNAPSHOTS))
    if not is_trained(run, recipe):
        TrackLearner(recipe, walked, motion, run, device).run()
    network = load_averaged(TrackFormer(recipe.config()), run, recipe).eval()
    assert isinstance(network, TrackFormer)
    return Trained(network, motion)


@dataclass(frozen=True)
class WalkLocator:
    """What locates the snapshots of walks, and where the traced streets are."""

    locator: TorchLocator
    retrieval: Retrieval
    recipe: TracksRecipe
    paths: Path

    @classmethod
    def load(cls, recipe: TracksRecipe, paths: Path) -> WalkLocator:
        folder = ARTIFACTS / recipe.artifact
        ours = MateformerRecipe.load(folder / RECIPE_FILE)
        model = Mateformer(ours.config())
        model.load_state_dict(load_file(folder / WEIGHTS_FILE))
        return cls(TorchLocator(model, torch.device("cpu")), ours.retrieval, recipe, paths)

    def locate(self, cell: tuple[str, int], seen: Seen, rng: np.random.Generator) -> Walked:
        survey, walks = (PathTable.load(path) for path in tables_of(self.paths, cell))
        return locate_walks(
            self.locator,
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
    """Raises `PathTablesMissing`, or `OtherCarrier` for a cell that was traced at another carrier than the recipe's."""
    require_tables(path for cell in list_cells(recipe) for path in tables_of(paths, cell))
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
