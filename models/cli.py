"""`fingerpost-train`: from ray-traced cities to an artifact that the service loads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
scenes = typer.Typer(no_args_is_help=True, help="Ray-trace cells into path tables.")
app.add_typer(scenes, name="scenes")


@scenes.command()
def trace(
    cells: Annotated[list[str], typer.Argument(help="city:first-last, e.g. munich:0-7 etoile:0-7")],
    out: Annotated[Path, typer.Option(help="Folder of the path tables.")] = Path("runs/paths"),
    users: Annotated[int, typer.Option(min=1, help="Users a cell.")] = 2500,
    carrier_ghz: Annotated[float, typer.Option(help="Carrier frequency in GHz.")] = 3.5,
    shard: Annotated[str, typer.Option(help="i/n: trace every n-th cell, from the i-th on.")] = "0/1",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all of them by default.")] = None,
) -> None:
    """Trace the paths of whole cells with Sionna RT; run again after a kill, it goes on where it stopped."""
    from models.radio.city import TracingUnavailable
    from models.radio.siting import NoSiteFound
    from models.radio.tracing import BadCellRange, parse_cells, shard_of, trace_cells

    try:
        for path in trace_cells(shard_of(parse_cells(cells), shard), out, users, carrier_ghz * 1e9, threads):
            typer.echo(path)
    except (BadCellRange, TracingUnavailable, NoSiteFound) as error:
        raise SystemExit(f"fingerpost-train: {error}") from error


@scenes.command()
def survey(
    cells: Annotated[list[str], typer.Argument(help="city:first-last")],
    recipe: Annotated[Path, typer.Option(exists=True, help="Whose array, subcarriers and bandwidth.")],
    out: Annotated[Path, typer.Option(help="Folder of the fingerprint files.")],
    references: Annotated[int, typer.Option(min=1, help="Fingerprints a cell.")] = 2000,
    users: Annotated[int, typer.Option(min=1, help="Users to locate a cell.")] = 200,
    measured_at: Annotated[float, typer.Option(help="Unix time of the measurements.")] = 0.0,
    paths: Annotated[Path, typer.Option(help="Folder of the path tables.")] = Path("runs/paths"),
) -> None:
    """Write traced cells as files that `fingerpost cells import` reads."""
    from models.radio.path_table import PathTable
    from models.radio.survey import TooFewReached, write_survey
    from models.radio.tracing import BadCellRange, parse_cells, table_path
    from models.training.recipe import load_recipe

    radio = load_recipe(recipe).radio
    try:
        for city, seed in parse_cells(cells):
            table = PathTable.load(table_path(paths, city, seed))
            for path in write_survey(
                table, radio.array, radio.subcarriers, radio.bandwidth, references, users, measured_at, out
            ):
                typer.echo(path)
    except (BadCellRange, TooFewReached, FileNotFoundError) as error:
        raise SystemExit(f"fingerpost-train: {error}") from error


@app.command()
def fit(
    recipe: Annotated[Path, typer.Argument(exists=True, help="The YAML recipe.")],
    run: Annotated[Path, typer.Argument(help="Folder of checkpoint, log and report.")],
    paths: Annotated[Path, typer.Option(help="Folder of the path tables.")] = Path("runs/paths"),
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    until: Annotated[int | None, typer.Option(help="Stop at this step; the recipe's end by default.")] = None,
) -> None:
    """Train by a recipe and report on held-out cells; run again to go on after a stop. Works under torchrun."""
    from models.training.fit import Fit, RecipeChanged, start_distributed
    from models.training.recipe import load_recipe
    from models.training.report import write_report

    loaded, chosen = load_recipe(recipe), start_distributed(device)
    try:
        training = Fit(loaded, paths, run, chosen)
    except (RecipeChanged, FileNotFoundError) as error:
        raise SystemExit(f"fingerpost-train: {error}") from error
    training.run(until)
    if training.rank == 0 and training.step >= loaded.optimiser.steps:
        typer.echo(write_report(training.model, loaded, paths, run, chosen))


@app.command()
def report(
    recipe: Annotated[Path, typer.Argument(exists=True)],
    run: Annotated[Path, typer.Argument(help="Folder with the checkpoint.")],
    paths: Annotated[Path, typer.Option(help="Folder of the path tables.")] = Path("runs/paths"),
    split: Annotated[str, typer.Option(help="validation, or all: the test cells too.")] = "validation",
) -> None:
    """Measure a checkpoint on held-out cells, beside weighted kNN and the GNSS fix."""
    import torch

    from models.training.fit import RecipeChanged, load_model
    from models.training.recipe import load_recipe
    from models.training.report import write_report

    loaded = load_recipe(recipe)
    try:
        model = load_model(run, loaded)
        typer.echo(write_report(model, loaded, paths, run, torch.device("cpu"), with_test=split == "all"))
    except (RecipeChanged, FileNotFoundError) as error:
        raise SystemExit(f"fingerpost-train: {error}") from error


@app.command()
def export(
    recipe: Annotated[Path, typer.Argument(exists=True)],
    run: Annotated[Path, typer.Argument(help="Folder with the checkpoint and the report.")],
    out: Annotated[Path, typer.Argument(help="Folder of the artifact.")],
    paths: Annotated[Path, typer.Option(help="Folder of the path tables.")] = Path("runs/paths"),
) -> None:
    """Turn a trained checkpoint into the artifact that the service loads."""
    from models.export import ParityLost, export_run
    from models.training.fit import RecipeChanged
    from models.training.recipe import load_recipe

    try:
        export_run(load_recipe(recipe), run, out, paths)
    except (ParityLost, RecipeChanged, FileNotFoundError) as error:
        raise SystemExit(f"fingerpost-train: {error}") from error
    typer.echo(out)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
