"""The commands of `fingerpost-train` for SCADF-MoE."""

from __future__ import annotations

import json as json_format
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, cast

import typer

from models.artifact import TrajectoryManifest, load_artifact
from models.pipeline.export import RECIPE_FILE
from models.pipeline.learner import choose_device, is_trained
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
from models.scadf_moe.calibration import check_parts, run_checks, write_checks
from models.scadf_moe.certainty_training import fit_certainty, save_certain, take_trunk
from models.scadf_moe.data import build_corpus
from models.scadf_moe.experiment import KINDS, ScadfMoEExperiment, load_experiment, run_experiment
from models.scadf_moe.export import export_run, write_trajectories
from models.scadf_moe.held_out import load_served
from models.scadf_moe.learner import ScadfMoELearner, load_model
from models.scadf_moe.network import ScadfMoE
from models.scadf_moe.recipe import PathFeatureKind, ScadfMoERecipe
from models.scadf_moe.report import list_results, plot_results, write_tables

SHOWN = 60  # trajectories

app = typer.Typer(help=__doc__, pretty_exceptions_enable=False)


class PathFeatures(StrEnum):
    exact = "exact"
    measured = "measured"
    estimated = "estimated"
    all = "all"


@app.command()
def fit(
    recipe: RecipeFile,
    run: RunFolder,
    paths: PathTables = PATH_TABLES,
    device: Device = "cpu",
    until: Until = None,
    trunk: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="Artifact of the same recipe, to learn covariances for its weights only."
        ),
    ] = None,
) -> None:
    """Train a model, then its covariances if the recipe has a section certainty. Resumes a stopped run."""
    loaded, chosen = ScadfMoERecipe.load(recipe), choose_device(device)
    corpus = build_corpus(loaded, paths)
    if trunk is None:
        ScadfMoELearner(loaded, corpus, run, chosen).run(until)
    if loaded.certainty is not None and (trunk is not None or is_trained(run, loaded.for_trunk())):
        weights = load_model(run, loaded) if trunk is None else take_trunk(trunk, loaded, corpus, run)
        save_certain(fit_certainty(loaded, cast(ScadfMoE, weights), load_served(loaded, paths)), run, loaded)


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
def evaluate(artifact: ArtifactFolder, paths: PathTables = PATH_TABLES, json: Json = False) -> None:
    """Print how often held-out points lie inside an artifact's ellipses, and how large these are."""
    loaded = load_artifact(artifact, TrajectoryManifest)
    recipe = ScadfMoERecipe.load(artifact / RECIPE_FILE)
    checks = run_checks(recipe, load_served(recipe, paths), loaded.graphs["full"])
    if json:
        rows = [one._asdict() for one in check_parts(checks, loaded.manifest.scales)]
        typer.echo(json_format.dumps(rows, indent=2))
    else:
        typer.echo(write_checks(checks, loaded.manifest.scales))


@app.command()
def experiment(
    file: ExperimentFile,
    paths: PathTables = PATH_TABLES,
    runs: RunsFolder = RUNS,
    out: TablesFolder = TABLES,
    device: Device = "cpu",
    budget: Annotated[str, typer.Option(help="A budget of the experiment: small or paper.")] = "small",
    path_features: Annotated[
        PathFeatures | None, typer.Option(help="The model's input besides CSI. Default: what the experiment names.")
    ] = None,
    json: Json = False,
) -> None:
    """Train and measure the variants of a recipe, in one file of tables. Resumes after a stop."""
    loaded, recipes = load_experiment(file, budget)
    table = out / f"{file.stem}.md"
    folders = {kind: runs / file.stem / budget / kind for kind in KINDS}
    command = shlex.join(["fingerpost-train", *sys.argv[1:]])
    table.parent.mkdir(parents=True, exist_ok=True)
    for kind in _choose_kinds(loaded, path_features):
        for _ in run_experiment(recipes, kind, paths, folders[kind], choose_device(device)):
            table.write_text(write_tables(loaded, recipes, folders, command))
    plot_results(loaded, recipes, folders, table.with_suffix(".png"))
    if json:
        typer.echo(json_format.dumps(list_results(recipes, folders), indent=2))
    else:
        typer.echo(table.read_text())


def _choose_kinds(loaded: ScadfMoEExperiment, chosen: PathFeatures | None) -> tuple[PathFeatureKind, ...]:
    if chosen is None:
        return loaded.path_features
    return tuple(kind for kind in KINDS if chosen in (PathFeatures.all, kind))
