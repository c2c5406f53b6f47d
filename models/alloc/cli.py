"""The commands of `fingerpost-train` for the experiments of the ALLoc paper."""

from __future__ import annotations

import json as json_format
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from models.alloc.experiment import load_experiment
from models.alloc.report import list_results, plot_results, summarise, write_tables
from models.alloc.runs import run_trials
from models.alloc.trials import plan_trials
from models.pipeline.learner import choose_device
from models.pipeline.options import PATH_TABLES, RUNS, TABLES, Device, ExperimentFile, Json, PathTables, TablesFolder

app = typer.Typer(help=__doc__, pretty_exceptions_enable=False)


@app.callback()
def _commands() -> None:
    """Keeps `experiment` a command of its own."""


@app.command()
def experiment(
    file: ExperimentFile,
    paths: PathTables = PATH_TABLES,
    runs: Annotated[Path, typer.Option(help="Folder of the trainings, which these experiments share.")] = RUNS
    / "alloc",
    out: TablesFolder = TABLES,
    device: Device = "cpu",
    budget: Annotated[str, typer.Option(help="A budget of the experiment: small or paper.")] = "small",
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at a time, each with one thread on the CPU.")] = 1,
    json: Json = False,
) -> None:
    """Train the methods, locate the users of held-out places, and write a table and a figure. Resumes after a stop."""
    loaded, rivals, seeds = load_experiment(file, budget)
    trials = plan_trials(loaded, rivals, seeds)
    table = out / f"{file.stem}.md"
    table.parent.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["fingerpost-train", *sys.argv[1:]])
    for _ in run_trials(trials, loaded, rivals, paths, runs / budget, jobs, choose_device(device)):
        pass
    table.write_text(write_tables(loaded, rivals, seeds, trials, runs / budget, command))
    plot_results(loaded, rivals, trials, runs / budget, table.with_suffix(".png"))
    if json:
        typer.echo(json_format.dumps(list_results(summarise(trials, runs / budget)), indent=2))
    else:
        typer.echo(table.read_text())
