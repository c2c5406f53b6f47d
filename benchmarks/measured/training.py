"""Models trained on corridors, for another corridor: what is tried, what is chosen, and the artifact of the chosen one.

Settings are chosen at the held-out locations of the corridors that are trained on. The corridor that the artifact is
for has no part in it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measured.corridors import BANDWIDTH, CARRIER, SUBCARRIERS, Corridor
from benchmarks.serving.served_models import RECIPE, SHIPPED
from models.artifact import MANIFEST_FILE
from models.mateformer.conditions import NO_GNSS
from models.mateformer.data import build_views
from models.mateformer.evaluation import MATEFORMER
from models.mateformer.export import export_run
from models.mateformer.learner import MateformerLearner, load_model
from models.mateformer.locators import TorchLocator
from models.mateformer.measurement import LOCATIONS, measure
from models.mateformer.recipe import MateformerRecipe
from models.pipeline.export import WEIGHTS_FILE

NO_PATHS = Path()  # no traced cell is trained on
SAME_LOCATION_M = 0.3  # the points are 0.5 m apart or more
CPU = torch.device("cpu")

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Setting:
    """`snapshots` of each point are in the surveys: those that are trained on, and the one that is served."""

    learning_rate: float
    steps: int
    snapshots: int

    @property
    def folder(self) -> str:
        return f"{self.steps}-{self.learning_rate:g}-{self.snapshots}"

    def __str__(self) -> str:
        return f"{self.steps} steps, rate {self.learning_rate:g}, {self.snapshots} snapshots a point"


@dataclass(frozen=True)
class Plan:
    """A name, the settings to choose from, and the sections of the recipe that differ from the shipped model's."""

    name: str
    settings: Sequence[Setting]
    sections: Mapping[str, Fields]
    start: Path | None = None  # weights to continue from

    @property
    def folder(self) -> str:
        return "-".join(re.findall("[a-z]+", self.name.lower()))


@dataclass(frozen=True)
class Learned:
    """`held_out`: mean error in metres at held-out locations, by setting. `before`: of the chosen one, untrained."""

    artifact: Path
    chosen: Setting
    held_out: Mapping[Setting, float]
    before: float | None


def learn(plan: Plan, base: MateformerRecipe, corridors: Sequence[Corridor], folder: Path) -> Learned:
    """Trains with each setting on these corridors, and exports the best. Resumes in a folder of the same corridors."""
    recipes, held_out = {}, {}
    for setting in plan.settings:
        recipe = recipes[setting] = write_recipe(plan, base, setting, corridors, folder / "surveys")
        run = folder / "runs" / setting.folder
        MateformerLearner(recipe, build_views(recipe, NO_PATHS), run, CPU).run()
        held_out[setting] = measure_held_out(recipe, run)
    chosen = min(plan.settings, key=held_out.__getitem__)
    recipe, run, artifact = recipes[chosen], folder / "runs" / chosen.folder, folder / "artifacts" / chosen.folder
    if not (artifact / MANIFEST_FILE).exists():
        export_run(recipe, run, artifact, NO_PATHS)
    before = None if plan.start is None else measure_start(recipe, folder / "start")
    return Learned(artifact, chosen, held_out, before)


def write_recipe(
    plan: Plan, base: MateformerRecipe, setting: Setting, corridors: Sequence[Corridor], surveys: Path
) -> MateformerRecipe:
    """The recipe of one setting. Writes the surveys that it trains on."""
    files = [surveys / f"{one.name}-{setting.snapshots}.safetensors" for one in corridors]
    for file, corridor in zip(files, corridors, strict=True):
        corridor.write_survey(file, setting.snapshots)
    sections: dict[str, Fields] = {
        "radio": {
            "array": {"rows": 1, "columns": 1},
            "subcarriers": SUBCARRIERS,
            "carrier_frequency": CARRIER,
            "bandwidth": BANDWIDTH,
        },
        "views": {"each": 1, "own": 1.0},
        "cells": {
            "train": [],
            "validation": [],
            "test": [],
            "fingerprints": [str(file) for file in files],
            "same_location": SAME_LOCATION_M,
        },
        "fixes": {"known": 0.0},
        "optimiser": {"learning_rate": setting.learning_rate, "steps": setting.steps},
    }
    fields = base.model_dump(mode="json") | {"start": None if plan.start is None else str(plan.start)}
    for changed in (sections, plan.sections):
        fields |= {name: {**fields[name], **values} for name, values in changed.items()}
    fields["name"] = plan.folder
    return MateformerRecipe.model_validate(fields)


def measure_held_out(recipe: MateformerRecipe, run: Path) -> float:
    """The mean error in metres at the held-out locations without a coarse position; each corridor counts alike."""
    locator = TorchLocator(load_model(run, recipe), CPU)
    cells = measure(locator, recipe, NO_PATHS, (), [replace(NO_GNSS, rivals=False)])[LOCATIONS]
    return float(np.mean([located.errors[MATEFORMER].mean() for cell in cells for located in cell.located.values()]))


def measure_start(recipe: MateformerRecipe, run: Path) -> float:
    """As `measure_held_out`, before the first step."""
    shutil.rmtree(run, ignore_errors=True)
    MateformerLearner(recipe, build_views(recipe, NO_PATHS), run, CPU).run(until=0)
    return measure_held_out(recipe, run)


_BATCH = {"neighbourhoods": 8, "to_infer": 16, "mislabelled": 0.0}


def fine_tuning(settings: Sequence[Setting]) -> Plan:
    """The shipped weights and the shipped recipe."""
    sections = {"batch": _BATCH, "optimiser": {"warmup_steps": 20, "average": 0.98}}
    return Plan("fine-tuned", settings, sections, SHIPPED / WEIGHTS_FILE)


def alloc(settings: Sequence[Setting]) -> Plan:
    """ALLoc's recipe on fresh weights: Adam, the mean squared error, 16 to 64 known samples, no augmentation.

    The network is Fingerpost's. `score` keeps the part of the loss that teaches the predicted covariances.
    """
    sections: dict[str, Fields] = {
        "batch": {**_BATCH, "known": [16, 64]},
        "symmetry": {"rotate": False, "mirror": False, "ramps": False, "reverse": 0.0},
        "optimiser": {
            "name": "adam",
            "weight_decay": 0.0,
            "schedule": "step",
            "warmup_steps": 0,
            "loss": "mse",
            "average": 0.0,
        },
    }
    return Plan("ALLoc's recipe", settings, sections)


def shipped_recipe() -> MateformerRecipe:
    return MateformerRecipe.load(RECIPE)
