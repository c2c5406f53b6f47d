"""`fingerpost-train scenes`: traces or reads path tables, and writes survey files of their cells."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from models.errors import exit_in_one_line

scenes = typer.Typer(no_args_is_help=True, help="Ray-trace cells into path tables, and write survey files.")


@scenes.command()
def trace(
    cells: Annotated[list[str], typer.Argument(help="city:first-last, e.g. munich:0-7 etoile-nlos:0-7")],
    out: Annotated[Path, typer.Option(help="Folder of the path tables.")] = Path("runs/paths"),
    users: Annotated[int | None, typer.Option(min=1, help="Users per cell.", show_default="2500")] = None,
    carrier_ghz: Annotated[
        list[float] | None,
        typer.Option(help="In GHz, 3.5 by default. With several carriers, each gets its own folder in --out."),
    ] = None,
    stations: Annotated[int, typer.Option(min=1, help="Base stations around each street, with the same users.")] = 1,
    street: Annotated[
        str | None,
        typer.Option(
            metavar="STATE",
            help="What stands in the street: cars, cars-moved, facade, or traffic-1 to traffic-99. Nothing by default.",
        ),
    ] = None,
    skip_users: Annotated[int, typer.Option(min=0, help="First users of each street to leave out.")] = 0,
    walks: Annotated[
        int, typer.Option(min=0, help="Trace users who walk instead: 10 places of each of so many walks per cell.")
    ] = 0,
    shard: Annotated[str, typer.Option(help="i/n: trace every n-th cell, starting with the i-th.")] = "0/1",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all by default.")] = None,
) -> None:
    """Trace the paths of whole cells with Sionna RT. Run the command again to resume after a stop."""
    from models.radio.street_changes import find_street
    from models.radio.tracing import band_folder, parse_cells, shard_of, trace_cells, trace_walks

    carriers = [ghz * 1e9 for ghz in carrier_ghz or [3.5]]
    with exit_in_one_line():
        state = None if street is None else find_street(street)
        for carrier in carriers:
            folder = out if len(carriers) == 1 else band_folder(out, carrier)
            chosen = shard_of(parse_cells(cells), shard)
            if walks:
                if state is not None or skip_users or stations > 1 or users is not None:
                    raise typer.BadParameter(
                        "takes bare streets, one base station and no number of users", param_hint="--walks"
                    )
                traced = trace_walks(chosen, folder, walks, carrier, threads)
            else:
                traced = trace_cells(chosen, folder, users or 2500, carrier, threads, stations, state, skip_users)
            for path in traced:
                typer.echo(path)


@scenes.command()
def survey(
    cells: Annotated[list[str], typer.Argument(help="city:first-last")],
    recipe: Annotated[Path, typer.Option(exists=True, help="A recipe; its section radio is enough.")],
    out: Annotated[Path, typer.Option(help="Folder of the fingerprint files.")],
    references: Annotated[int, typer.Option(min=1, help="Fingerprints per cell.")] = 2000,
    users: Annotated[int, typer.Option(min=1, help="Users to locate per cell.")] = 200,
    measured_at: Annotated[float, typer.Option(help="Unix time of the measurements.")] = 0.0,
    paths: Annotated[Path, typer.Option(help="Folder of the path tables.")] = Path("runs/paths"),
) -> None:
    """Write traced cells as fingerprint files that `fingerpost cells import` reads."""
    from models.pipeline.recipe import read_radio
    from models.radio.cells import table_paths
    from models.radio.path_table import PathTable
    from models.radio.survey import write_survey

    with exit_in_one_line():
        radio = read_radio(recipe)
        for table in table_paths(cells, paths):
            for path in write_survey(PathTable.load(table), radio, references, users, measured_at, out):
                typer.echo(path)


@scenes.command()
def walks(
    cells: Annotated[list[str], typer.Argument(help="city:first-last, traced with --walks")],
    recipe: Annotated[Path, typer.Option(exists=True, help="A recipe; its section radio is enough.")],
    out: Annotated[Path, typer.Option(help="Folder of the fingerprint files.")],
    walks: Annotated[int, typer.Option(min=1, help="Walks per cell.")] = 30,
    snapshots: Annotated[int, typer.Option(min=1, max=10, help="Snapshots of each walk.")] = 5,
    measured_at: Annotated[float, typer.Option(help="Unix time of the first snapshots; then one a second.")] = 0.0,
    paths: Annotated[Path, typer.Option(help="Folder of the path tables.")] = Path("runs/paths"),
) -> None:
    """Write users who walk as fingerprint files: the snapshots of one walk after those of another."""
    from models.pipeline.recipe import read_radio
    from models.radio.path_table import PathTable, require_tables
    from models.radio.survey import write_walks
    from models.radio.tracing import parse_cells, walks_path

    with exit_in_one_line():
        radio = read_radio(recipe)
        tables = [walks_path(paths, *cell) for cell in parse_cells(cells)]
        require_tables(tables)
        for table in tables:
            typer.echo(write_walks(PathTable.load(table), radio, walks, snapshots, measured_at, out))


@scenes.command()
def stations(
    street: Annotated[str, typer.Argument(help="city:seed of a street traced with --stations.")],
    out: Annotated[Path, typer.Option(help="Folder of the fingerprint files.")],
    stations: Annotated[int, typer.Option(min=2, help="Base stations of the street.")] = 4,
    users: Annotated[int, typer.Option(min=1, help="Users that every station reaches.")] = 60,
    antennas: Annotated[int, typer.Option(min=1, help="Antennas of each linear array.")] = 16,
    subcarriers: Annotated[int, typer.Option(min=1)] = 64,
    bandwidth_mhz: Annotated[float, typer.Option(min=0.1)] = 50.0,
    measured_at: Annotated[float, typer.Option(help="Unix time of the measurements.")] = 0.0,
    paths: Annotated[Path, typer.Option(help="Folder of the path tables.")] = Path("runs/paths"),
) -> None:
    """Write what several base stations measure of the same users: one fingerprint file a station, row by row.

    The snapshots have 20 dB of receiver noise and a random phase.
    """
    from models.radio.front_end import Radio
    from models.radio.path_table import PathTable
    from models.radio.survey import write_station_snapshots
    from models.radio.tracing import parse_cells, table_path
    from reference_db.cell import AntennaArray

    radio = Radio(array=AntennaArray(rows=1, columns=antennas), subcarriers=subcarriers, bandwidth=bandwidth_mhz * 1e6)
    with exit_in_one_line():
        city, seed = parse_cells([street])[0]
        tables = [PathTable.load(table_path(paths, city, seed, number)) for number in range(stations)]
        for path in write_station_snapshots(tables, radio, users, measured_at, out):
            typer.echo(path)


@scenes.command()
def wair_d(
    environment: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="A folder such as scenario_1/00743.")
    ],
    out: Annotated[Path, typer.Option(help="Parent folder of the path tables; one subfolder per carrier.")] = Path(
        "runs/paths"
    ),
    carrier_ghz: Annotated[list[float] | None, typer.Option(help="In GHz; 2.6, 6 and 28 by default.")] = None,
    unpickle: Annotated[
        bool, typer.Option("--unpickle", help="Read pickles, which can run code. Only for files that you trust.")
    ] = False,
) -> None:
    """Turn an environment of the WAIR-D data set into path tables, one per base station and carrier."""
    from models.radio.tracing import band_folder, table_path
    from models.radio.wair_d import read_environment

    with exit_in_one_line():
        for carrier in (ghz * 1e9 for ghz in carrier_ghz or (2.6, 6.0, 28.0)):
            for table in read_environment(environment, carrier, unpickle):
                path = table_path(band_folder(out, carrier), table.site.city, table.site.seed)
                path.parent.mkdir(parents=True, exist_ok=True)
                table.save(path)
                typer.echo(path)


@scenes.command()
def deepmimo(
    scenario: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="Folder of a scenario of DeepMIMO version 4.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the fingerprint files.")] = Path("."),
    cell: Annotated[
        str | None, typer.Option(help="Name of the cell.", show_default="the folder and the transmitter")
    ] = None,
    point: Annotated[
        tuple[float, float], typer.Option(metavar="LAT LON", help="Where the base station is on Earth, WGS84 degrees.")
    ] = (0.0, 0.0),
    transmitter: Annotated[
        str | None,
        typer.Option(metavar="SET:NUMBER", help="The base station.", show_default="the first with the most receivers"),
    ] = None,
    azimuth: Annotated[
        float | None,
        typer.Option(help="Compass azimuth of the array; y is north.", show_default="to the middle of the receivers"),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows of the array.")] = 1,
    columns: Annotated[int, typer.Option(min=1, help="Columns of the array.")] = 32,
    subcarriers: Annotated[int, typer.Option(min=1)] = 32,
    bandwidth_mhz: Annotated[float, typer.Option(min=0.1)] = 40.0,
    users: Annotated[
        int | None, typer.Option(min=1, help="Receivers to draw at random; all that paths reach by default.")
    ] = None,
    held_out: Annotated[float, typer.Option(min=0.01, max=0.9, help="Share of the locations to hold out.")] = 0.2,
    same_location: Annotated[
        float, typer.Option(min=0.001, help="Receivers this near to each other, in metres, are one location.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws and holds out the same receivers.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
) -> None:
    """Turn a scenario of DeepMIMO into a survey to import and users to locate, of other locations.

    Writes CELL-references.safetensors and CELL-users.safetensors, and prints their names.
    """
    from models.radio.deepmimo import choose_link, read_scenario, write_scenario
    from models.radio.front_end import Radio
    from reference_db.azimuth import to_direction
    from reference_db.cell import AntennaArray

    with exit_in_one_line():
        link = choose_link(scenario, transmitter)
        yaw = None if azimuth is None else to_direction(azimuth)
        table = read_scenario(scenario, link, yaw, users, seed)
        array = AntennaArray(rows=rows, columns=columns)
        radio = Radio(array=array, subcarriers=subcarriers, bandwidth=bandwidth_mhz * 1e6)
        for path in write_scenario(table, radio, cell, point, held_out, same_location, seed, out, force):
            typer.echo(path)
