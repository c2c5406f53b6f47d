"""`fingerpost-train scenes`: path tables, traced or read, and the cells that they make."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

scenes = typer.Typer(no_args_is_help=True, help="Ray-trace cells into path tables.")


@scenes.command()
def trace(
    cells: Annotated[list[str], typer.Argument(help="city:first-last, e.g. munich:0-7 etoile:0-7")],
    out: Annotated[Path, typer.Option(help="Folder of the path tables.")] = Path("runs/paths"),
    users: Annotated[int, typer.Option(min=1, help="Users a cell.")] = 2500,
    carrier_ghz: Annotated[
        list[float] | None,
        typer.Option(
            help="In GHz, 3.5 by default. Given more than once, each carrier has a folder of its own in --out."
        ),
    ] = None,
    shard: Annotated[str, typer.Option(help="i/n: trace every n-th cell, from the i-th on.")] = "0/1",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all of them by default.")] = None,
) -> None:
    """Trace the paths of whole cells with Sionna RT; run again after a kill, it goes on where it stopped."""
    from models.radio.city import TracingUnavailable
    from models.radio.siting import NoSiteFound
    from models.radio.tracing import BadCellRange, band_folder, parse_cells, shard_of, trace_cells

    carriers = [ghz * 1e9 for ghz in carrier_ghz or [3.5]]
    try:
        for carrier in carriers:
            folder = out if len(carriers) == 1 else band_folder(out, carrier)
            for path in trace_cells(shard_of(parse_cells(cells), shard), folder, users, carrier, threads):
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
    from models.pipeline.recipe import load_recipe
    from models.radio.path_table import PathTable
    from models.radio.survey import TooFewReached, write_survey
    from models.radio.tracing import BadCellRange, parse_cells, table_path

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


@scenes.command()
def wair_d(
    environment: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="scenario_1/00743 or the like.")],
    out: Annotated[Path, typer.Option(help="Folder of a folder of path tables a carrier.")] = Path("runs/paths"),
    carrier_ghz: Annotated[list[float] | None, typer.Option(help="In GHz; 2.6, 6 and 28 by default.")] = None,
    unpickle: Annotated[
        bool, typer.Option("--unpickle", help="These files are pickles, which can run code: say that you trust them.")
    ] = False,
) -> None:
    """Turn an environment of the WAIR-D data set into path tables, one a base station and carrier."""
    from models.radio.tracing import band_folder, table_path
    from models.radio.wair_d import NotWairD, PickleRefused, read_environment

    try:
        for carrier in (ghz * 1e9 for ghz in carrier_ghz or (2.6, 6.0, 28.0)):
            for table in read_environment(environment, carrier, unpickle):
                path = table_path(band_folder(out, carrier), table.site.city, table.site.seed)
                path.parent.mkdir(parents=True, exist_ok=True)
                table.save(path)
                typer.echo(path)
    except (NotWairD, PickleRefused, FileNotFoundError) as error:
        raise SystemExit(f"fingerpost-train: {error}") from error
