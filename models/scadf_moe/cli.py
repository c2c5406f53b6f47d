"""The commands of `fingerpost-train` for SCADF-MoE."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import torch
import typer

from models.pipeline.options import (
    PATH_TABLES,
    RUNS,
    TABLES,
    Device,
    ExperimentFile,
    NewArtifactFolder,
    PathTables,
    RecipeFile,
    RunFolder,
    RunsFolder,
    TablesFolder,
    Until,
)
from models.scadf_moe.data import build_corpus
from models.scadf_moe.experiment import KINDS, load_experiment, run_experiment
from models.scadf_moe.export import export_run, write_trajectories
from models.scadf_moe.learner import ScadfMoELearner
from models.scadf_moe.recipe import ScadfMoERecipe
from models.scadf_moe.report import plot_results, write_tables

SHOWN = 60  # trajectories

app = typer.Typer(help=__doc__, pretty_exceptions_enable=False)


class PathFeatures(StrEnum):
    exact = "exact"
    measured = "measured"
    estimated = "estimated"
    all = "all"


@app.command()
def fit(
    recipe: RecipeFile, run: RunFolder, paths: PathTables = PATH_TABLES, device: Device = "cpu", until: Until = None
) -> None:
    """Train a model. Resumes a stopped run."""
    loaded = ScadfMoERecipe.load(recipe)
    ScadfMoELearner(loaded, build_corpus(loaded, paths), run, torch.device(device)).run(until)


@app.command()
def export(
    recipe: RecipeFile,
    run: RunFolder,
    out: NewArtifactFolder,
    paths: PathTables = PATH_TABLES,
    shown: Annotated[
        Path | None, typer.Option(help="Also write example trajectories, which a service can locate, to this folder.")
    ] = None,
) -> None:
    """Turn a checkpoint into an artifact that the service loads."""
    loaded = ScadfMoERecipe.load(recipe)
    export_run(loaded, run, out, paths)
    if shown is not None:
        write_trajectories(loaded, paths, loaded.train_bands[0], SHOWN, shown)
    typer.echo(out)


@app.command()
def experiment(
    file: ExperimentFile,
    paths: PathTables = PATH_TABLES,
    runs: RunsFolder = RUNS,
    out: TablesFolder = TABLES,
    device: Device = "cpu",
    budget: Annotated[str, typer.Option(help="A budget of the experiment: small or paper.")] = "small",
    path_features: Annotated[PathFeatures, typer.Option(help="The model's input besides CSI.")] = PathFeatures.all,
) -> None:
    """Train and measure the variants of a recipe, in one file of tables. Resumes after a stop."""
    loaded, recipes = load_experiment(file, budget)
    table = out / f"{file.stem}.md"
    folders = {kind: runs / file.stem / budget / kind for kind in KINDS}
    command = shlex.join(["fingerpost-train", *sys.argv[1:]])
    table.parent.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        if path_features in (PathFeatures.all, kind):
            for _ in run_experiment(recipes, kind, paths, folders[kind], torch.device(device)):
                table.write_text(write_tables(loaded, recipes, folders, command))
    plot_results(loaded, recipes, folders, table.with_suffix(".png"))
    typer.echo(table.read_text())
