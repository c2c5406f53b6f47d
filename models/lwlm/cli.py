"""The commands of `fingerpost-train` for LWLM."""

from __future__ import annotations

import json as json_format
import shlex
import sys
from typing import Annotated

import typer

from models.lwlm.calibration import calibrate_artifact
from models.lwlm.card import coverage_table
from models.lwlm.experiment import load_experiment, read_result, run_experiment
from models.lwlm.export import export_run
from models.lwlm.learner import fit as fit_run
from models.lwlm.recipe import LwlmRecipe
from models.lwlm.report import plot_curves, write_tables
from models.pipeline.learner import choose_device
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
)

SHARED = "lwlm"  # the folder of the runs of all experiments of the family

app = typer.Typer(help=__doc__, pretty_exceptions_enable=False)


@app.command()
def fit(recipe: RecipeFile, run: RunFolder, paths: PathTables = PATH_TABLES, device: Device = "cpu") -> None:
    """Pretrain the encoder, then train the decoders. Resumes a stopped run."""
    fit_run(LwlmRecipe.load(recipe), paths, run, choose_device(device))


@app.command()
def export(recipe: RecipeFile, run: RunFolder, out: NewArtifactFolder, paths: PathTables = PATH_TABLES) -> None:
    """Turn a finished run into an artifact that the service loads."""
    export_run(LwlmRecipe.load(recipe), run, out, paths)
    typer.echo(out)


@app.command()
def calibrate(artifact: ArtifactFolder, paths: PathTables = PATH_TABLES, json: Json = False) -> None:
    """Measure an artifact's scales on the validation streets again, and their coverage on the test streets."""
    coverage = calibrate_artifact(artifact, paths)
    typer.echo(json_format.dumps(coverage, indent=2) if json else coverage_table(coverage))


@app.command()
def experiment(
    file: ExperimentFile,
    paths: PathTables = PATH_TABLES,
    runs: RunsFolder = RUNS,
    out: TablesFolder = TABLES,
    device: Device = "cpu",
    budget: Annotated[str, typer.Option(help="A budget of the experiment: small or paper.")] = "small",
    json: Json = False,
) -> None:
    """Train and measure the variants of a recipe over label budgets. Resumes after a stop."""
    loaded, recipes = load_experiment(file, budget)
    table = out / f"{file.stem}.md"
    command = shlex.join(["fingerpost-train", *sys.argv[1:]])
    table.parent.mkdir(parents=True, exist_ok=True)
    for _ in run_experiment(recipes, paths, runs / SHARED, choose_device(device)):
        table.write_text(write_tables(loaded, recipes, runs / SHARED, command))
    if len({run.labels for run in recipes}) > 1:
        plot_curves(loaded, recipes, runs / SHARED, table.with_suffix(".png"))
    if json:
        results = ((run, read_result(recipe, runs / SHARED)) for run, recipe in recipes.items())
        complete = [run._asdict() | result for run, result in results if result is not None]
        typer.echo(json_format.dumps(complete, indent=2))
    else:
        typer.echo(table.read_text())
