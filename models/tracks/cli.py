"""The commands of `fingerpost-train` for tracks."""

from __future__ import annotations

import json as json_format
import shlex
import sys

import typer

from models.pipeline.learner import choose_device
from models.pipeline.options import (
    PATH_TABLES,
    RUNS,
    TABLES,
    Device,
    ExperimentFile,
    Json,
    NewArtifactFolder,
    PathTables,
    RecipeFile,
    RunFolder,
    RunsFolder,
    TablesFolder,
)
from models.tracks.experiment import load_experiment, run_experiment
from models.tracks.export import export_run, fit_run
from models.tracks.recipe import TracksRecipe
from models.tracks.report import write_table

app = typer.Typer(help=__doc__, pretty_exceptions_enable=False)


@app.command()
def fit(recipe: RecipeFile, run: RunFolder, paths: PathTables = PATH_TABLES, device: Device = "cpu") -> None:
    """Locate the walks of the training cells, and train the network on them. Resumes a stopped run."""
    fit_run(TracksRecipe.load(recipe), run, paths, choose_device(device))


@app.command()
def export(recipe: RecipeFile, run: RunFolder, out: NewArtifactFolder, paths: PathTables = PATH_TABLES) -> None:
    """Add the network to a copy of the artifact that the recipe names. The walks of validation cells calibrate it.

    If ARTIFACT is that artifact's own folder, it gets the network itself.
    """
    export_run(TracksRecipe.load(recipe), run, out, paths)
    typer.echo(out)


@app.command()
def experiment(
    file: ExperimentFile,
    paths: PathTables = PATH_TABLES,
    runs: RunsFolder = RUNS,
    out: TablesFolder = TABLES,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Train the network for tracks, locate the tracks of held-out cities, and write a table. Resumes after a stop."""
    loaded, recipes = load_experiment(file)
    table = out / f"{file.stem}.md"
    table.parent.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["fingerpost-train", *sys.argv[1:]])
    results = []
    for result in run_experiment(loaded, recipes, paths, runs / file.stem, choose_device(device)):
        results.append(result)
        table.write_text(write_table(loaded, recipes[0], results, command))
    typer.echo(json_format.dumps(results, indent=2) if json else table.read_text())
