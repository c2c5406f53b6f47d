"""`fingerpost-train`: from ray-traced cities to an artifact that the service loads."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.cli_scenes import scenes
from models.scadf_moe.cli import export_trajectories, fit_trajectories

if TYPE_CHECKING:
    from models.mateformer.network import Mateformer
    from models.pipeline.recipe import Recipe

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
app.add_typer(scenes, name="scenes")


RECIPES = Path(__file__).parent / "recipes"


class Split(StrEnum):
    validation = "validation"
    test = "test"
    all = "all"

    @property
    def splits(self) -> tuple[str, ...]:
        return ("validation", "test") if self is Split.all else (self.value,)


class CueKind(StrEnum):
    exact = "exact"
    measured = "measured"
    estimated = "estimated"
    all = "all"


class Conditions(StrEnum):
    headline = "headline"
    all = "all"


@app.command()
def fit(
    recipe: Annotated[Path, typer.Argument(exists=True, help="The YAML recipe.")],
    run: Annotated[Path, typer.Argument(help="Folder of checkpoint, log and report.")],
    paths: Annotated[Path, typer.Option(help="Folder of the path tables.")] = Path("runs/paths"),
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    until: Annotated[int | None, typer.Option(help="Stop at this step; the recipe's end by default.")] = None,
) -> None:
    """Train by a recipe and report on held-out cells; run again to go on after a stop. Works under torchrun."""
    from models.scadf_moe.recipe import load_trajectory_recipe

    trajectories = load_trajectory_recipe(recipe)
    if trajectories is not None:
        fit_trajectories(trajectories, run, paths, device, until)
        return
    from models.mateformer.learner import Fit, load_model, start_distributed
    from models.pipeline.learner import RecipeChanged
    from models.pipeline.recipe import load_recipe

    loaded, chosen = load_recipe(recipe), start_distributed(device)
    try:
        training = Fit(loaded, paths, run, chosen)
    except (RecipeChanged, FileNotFoundError) as error:
        raise SystemExit(f"fingerpost-train: {error}") from error
    training.run(until)
    if training.rank == 0 and training.step >= loaded.optimiser.steps:
        _report(load_model(run, loaded), loaded, paths, run, device, Split.all)


@app.command()
def report(
    recipe: Annotated[Path, typer.Argument(exists=True)],
    run: Annotated[Path, typer.Argument(help="Folder with the checkpoint.")],
    paths: Annotated[Path, typer.Option(help="Folder of the path tables.")] = Path("runs/paths"),
    split: Annotated[Split, typer.Option(help="Which held-out cells.")] = Split.validation,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Measure a checkpoint on held-out cells under the headline conditions, beside weighted kNN and the GNSS fix."""
    from models.mateformer.learner import load_model
    from models.pipeline.learner import RecipeChanged
    from models.pipeline.recipe import load_recipe

    loaded = load_recipe(recipe)
    try:
        _report(load_model(run, loaded), loaded, paths, run, device, split)
    except (RecipeChanged, FileNotFoundError) as error:
        raise SystemExit(f"fingerpost-train: {error}") from error


@app.command()
def export(
    recipe: Annotated[Path, typer.Argument(exists=True)],
    run: Annotated[Path, typer.Argument(help="Folder with the checkpoint.")],
    out: Annotated[Path, typer.Argument(help="Folder of the artifact.")],
    paths: Annotated[Path, typer.Option(help="Folder of the path tables.")] = Path("runs/paths"),
    shown: Annotated[
        Path | None, typer.Option(help="Of a network for trajectories: folder for some that a service can locate.")
    ] = None,
) -> None:
    """Turn a trained checkpoint into the artifact that the service loads; `evaluate --write` adds its figures."""
    from models.scadf_moe.recipe import load_trajectory_recipe

    trajectories = load_trajectory_recipe(recipe)
    if trajectories is not None:
        export_trajectories(trajectories, run, out, paths, shown)
        typer.echo(out)
        return
    from models.mateformer.export import ParityLost, export_run
    from models.pipeline.learner import RecipeChanged
    from models.pipeline.recipe import load_recipe

    try:
        export_run(load_recipe(recipe), run, out, paths)
    except (ParityLost, RecipeChanged, FileNotFoundError) as error:
        raise SystemExit(f"fingerpost-train: {error}") from error
    typer.echo(out)


@app.command()
def evaluate(
    artifact: Annotated[Path, typer.Argument(exists=True, help="Folder of the artifact, with its recipe.yaml.")],
    paths: Annotated[Path, typer.Option(help="Folder of the path tables.")] = Path("runs/paths"),
    out: Annotated[Path, typer.Option(help="Folder of evaluation.json, .md and .png.")] = Path("runs/evaluation"),
    split: Annotated[Split, typer.Option(help="Which held-out cells.")] = Split.all,
    users: Annotated[int | None, typer.Option(min=1, help="Users a cell; all of the held-out by default.")] = None,
    conditions: Annotated[Conditions, typer.Option(help="The headline, or every axis.")] = Conditions.all,
    write: Annotated[bool, typer.Option("--write", help="Write the figures into the artifact too.")] = False,
) -> None:
    """Measure an artifact, as it ships, on held-out cells: bad or no GNSS, bad radios, fewer fingerprints."""
    from models.artifact import ArtifactError, load_mateformer
    from models.mateformer import report
    from models.mateformer.conditions import ALL, HEADLINE
    from models.mateformer.export import RECIPE_FILE, record_evaluation
    from models.mateformer.locators import onnx_locate
    from models.pipeline.recipe import load_recipe

    chosen = HEADLINE if conditions is Conditions.headline else ALL
    try:
        loaded, recipe = load_mateformer(artifact), load_recipe(artifact / RECIPE_FILE)
        results = report.evaluate(onnx_locate(loaded), recipe, paths, split.splits, chosen, users)
    except (ArtifactError, FileNotFoundError) as error:
        raise SystemExit(f"fingerpost-train: {error}") from error
    report.write_report(results, chosen, recipe, out)
    if write:
        record_evaluation(loaded, recipe, out)
    typer.echo((out / report.TABLE_FILE).read_text())


@app.command()
def experiment(
    name: Annotated[str, typer.Argument(help="A file of models/recipes/[trajectories/]experiments, without .yaml.")],
    paths: Annotated[Path, typer.Option(help="Folder of the path tables.")] = Path("runs/paths"),
    runs: Annotated[Path, typer.Option(help="Folder of all experiments' runs.")] = Path("runs/experiments"),
    out: Annotated[Path, typer.Option(help="Folder of the tables.")] = Path("benchmarks/results"),
    recipes: Annotated[Path, typer.Option(help="Folder of the recipes.")] = RECIPES,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    split: Annotated[Split, typer.Option(help="Which held-out cells; not for trajectories.")] = Split.all,
    budget: Annotated[str, typer.Option(help="For trajectories: small or paper.")] = "small",
    cues: Annotated[CueKind, typer.Option(help="For trajectories: what stands beside the CSI.")] = CueKind.all,
) -> None:
    """Train and measure variants of a recipe, into one table; run again after a stop, it goes on."""
    command, table = shlex.join(["fingerpost-train", *sys.argv[1:]]), out / f"{name}.md"
    trajectories = recipes / "trajectories" / "experiments" / f"{name}.yaml"
    if trajectories.exists():
        _experiment_on_trajectories(trajectories, budget, cues, paths, runs / name / budget, table, device, command)
    else:
        _experiment(recipes / "experiments" / f"{name}.yaml", split, paths, runs / name, table, device, command)
    typer.echo(table.read_text())


def _experiment(file: Path, split: Split, paths: Path, runs: Path, table: Path, device: str, command: str) -> None:
    import torch

    from models.pipeline.experiment import UnknownCondition, load_experiment, run_experiment
    from models.pipeline.learner import RecipeChanged

    try:
        loaded, variants = load_experiment(file)
        run_experiment(loaded, variants, paths, runs, table, torch.device(device), split.splits, command)
    except (UnknownCondition, RecipeChanged, FileNotFoundError) as error:
        raise SystemExit(f"fingerpost-train: {error}") from error


def _experiment_on_trajectories(
    file: Path, budget: str, cues: CueKind, paths: Path, runs: Path, table: Path, device: str, command: str
) -> None:
    import torch

    from models.pipeline.learner import RecipeChanged
    from models.scadf_moe.data import OtherUsers
    from models.scadf_moe.experiment import (
        ALL_CUES,
        UnknownBudget,
        load_trajectory_experiment,
        run_trajectory_experiment,
    )
    from models.scadf_moe.report import plot_trajectories, trajectory_tables
    from models.scadf_moe.sampling import NoTrajectories

    folders = {kind: runs / kind for kind in ALL_CUES}
    table.parent.mkdir(parents=True, exist_ok=True)
    try:
        loaded, recipes = load_trajectory_experiment(file, budget)
        for kind in ALL_CUES:
            if cues in (CueKind.all, kind):
                for _ in run_trajectory_experiment(recipes, kind, paths, folders[kind], torch.device(device)):
                    table.write_text(trajectory_tables(loaded, recipes, folders, command))
        plot_trajectories(loaded, recipes, folders, table.with_suffix(".png"))
    except (UnknownBudget, RecipeChanged, NoTrajectories, OtherUsers, FileNotFoundError) as error:
        raise SystemExit(f"fingerpost-train: {error}") from error


def _report(model: Mateformer, recipe: Recipe, paths: Path, run: Path, device: str, split: Split) -> None:
    import torch

    from models.mateformer import report
    from models.mateformer.conditions import HEADLINE
    from models.mateformer.locators import torch_locate

    locate = torch_locate(model, torch.device(device))
    report.write_report(report.evaluate(locate, recipe, paths, split.splits, HEADLINE), HEADLINE, recipe, run)
    typer.echo((run / report.TABLE_FILE).read_text())


def main() -> None:
    app()


if __name__ == "__main__":
    main()
