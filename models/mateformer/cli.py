"""The commands of `fingerpost-train` for a Mateformer."""

from __future__ import annotations

import json as json_format
import os
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from models.artifact import MateformerManifest, load_artifact
from models.mateformer.conditions import HEADLINE, SETS, find_conditions
from models.mateformer.data import build_views
from models.mateformer.experiment import load_experiment, run_experiment
from models.mateformer.export import export_run, record_evaluation
from models.mateformer.learner import MateformerLearner, load_model
from models.mateformer.locators import OnnxLocator, TorchLocator
from models.mateformer.measurement import measure
from models.mateformer.query_few import add_query_few
from models.mateformer.recipe import MateformerRecipe
from models.mateformer.report import JSON_FILE, TABLE_FILE, write_report
from models.pipeline.export import RECIPE_FILE
from models.pipeline.learner import choose_device, join_processes
from models.pipeline.options import (
    PATH_TABLES,
    RUNS,
    TABLES,
    ArtifactFolder,
    Device,
    ExperimentFile,
    Json,
    NewArtifactFolder,
    PathTables,
    RecipeFile,
    RunFolder,
    RunsFolder,
    TablesFolder,
    Until,
)

app = typer.Typer(help=__doc__, pretty_exceptions_enable=False)


class Split(StrEnum):
    validation = "validation"
    test = "test"
    all = "all"

    @property
    def splits(self) -> tuple[str, ...]:
        return ("validation", "test") if self is Split.all else (self.value,)


SplitOption = Annotated[Split, typer.Option(help="Which held-out cells.")]


@app.command()
def fit(
    recipe: RecipeFile, run: RunFolder, paths: PathTables = PATH_TABLES, device: Device = "cpu", until: Until = None
) -> None:
    """Train a model; after the last step, report on held-out cells. Resumes a stopped run. Works under torchrun."""
    loaded, chosen = MateformerRecipe.load(recipe), join_processes(device)
    learner = MateformerLearner(loaded, build_views(loaded, paths), run, chosen)
    learner.run(until)
    if learner.rank == 0 and learner.step >= loaded.optimiser.steps:
        _report(loaded, run, paths, Split.all, device)


@app.command()
def report(
    recipe: RecipeFile,
    run: RunFolder,
    paths: PathTables = PATH_TABLES,
    split: SplitOption = Split.validation,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Measure a checkpoint on held-out cells under the headline conditions, next to weighted kNN and the GNSS fix."""
    _report(MateformerRecipe.load(recipe), run, paths, split, device, json)


@app.command()
def export(
    recipe: RecipeFile,
    run: RunFolder,
    out: NewArtifactFolder,
    paths: PathTables = PATH_TABLES,
    quantise: Annotated[
        bool, typer.Option("--quantise", help="Add the graph query_few, with weights in 8 bits, for few users.")
    ] = False,
) -> None:
    """Turn a checkpoint into an artifact that the service loads. `evaluate --write` adds its results."""
    export_run(MateformerRecipe.load(recipe), run, out, paths, quantise)
    typer.echo(out)


@app.command()
def evaluate(
    artifact: ArtifactFolder,
    paths: PathTables = PATH_TABLES,
    out: Annotated[Path, typer.Option(help="Folder of evaluation.json, .md and .png.")] = Path("runs/evaluation"),
    split: SplitOption = Split.all,
    users: Annotated[int | None, typer.Option(min=1, help="Users per cell; all held-out users by default.")] = None,
    conditions: Annotated[
        str,
        typer.Option(help=f"{', '.join(SETS)}, or names of conditions, separated by commas. Any other lists all."),
    ] = "all",
    write: Annotated[bool, typer.Option("--write", help="Write the results into the artifact too.")] = False,
    json: Json = False,
) -> None:
    """Measure an artifact, as it ships, on held-out cells: fixes, radios, clocks, fewer fingerprints, regions."""
    chosen = find_conditions(conditions.split(","))
    loaded = load_artifact(artifact, MateformerManifest)
    recipe = MateformerRecipe.load(artifact / RECIPE_FILE)
    results = measure(OnnxLocator(loaded, os.cpu_count() or 1), recipe, paths, split.splits, chosen, users)
    write_report(results, chosen, recipe, out)
    if write:
        record_evaluation(loaded, recipe, out)
    typer.echo((out / (JSON_FILE if json else TABLE_FILE)).read_text())


@app.command()
def quantise(
    artifact: ArtifactFolder,
    fingerprints: Annotated[
        list[Path], typer.Argument(exists=True, help="Fingerprint files, or folders of them, to compare users of.")
    ],
) -> None:
    """Add the graph query_few, with weights in 8 bits, to an artifact, and compare its estimates with those of query.

    Needs no checkpoint. The digest of the artifact changes.
    """
    for line in add_query_few(load_artifact(artifact, MateformerManifest), fingerprints):
        typer.echo(line)


@app.command()
def experiment(
    file: ExperimentFile,
    paths: PathTables = PATH_TABLES,
    runs: RunsFolder = RUNS,
    out: TablesFolder = TABLES,
    device: Device = "cpu",
    split: SplitOption = Split.all,
    json: Json = False,
) -> None:
    """Train and measure the variants of a recipe, in one table. Resumes after a stop."""
    loaded, recipes = load_experiment(file)
    table = out / f"{file.stem}.md"
    command = shlex.join(["fingerpost-train", *sys.argv[1:]])
    chosen = choose_device(device)
    results = run_experiment(loaded, recipes, paths, runs / file.stem, table, chosen, split.splits, command)
    if json:
        typer.echo(json_format.dumps([{"variant": name} | one for name, one in results.items()], indent=2))
    else:
        typer.echo(table.read_text())


def _report(recipe: MateformerRecipe, run: Path, paths: Path, split: Split, device: str, json: bool = False) -> None:
    locator = TorchLocator(load_model(run, recipe), choose_device(device))
    write_report(measure(locator, recipe, paths, split.splits, HEADLINE), HEADLINE, recipe, run)
    typer.echo((run / (JSON_FILE if json else TABLE_FILE)).read_text())
