"""``fingerpost``: serve, ask, import. Heavy parts are imported by the commands that need them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from reference_db.manifest import Manifest
    from service.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Locates radio users from their channel.")
cells = typer.Typer(no_args_is_help=True, help="The cells of the reference database.")
app.add_typer(cells, name="cells")

Database = Annotated[
    Path | None, typer.Option(help="The reference database's directory. [FINGERPOST_DATABASE_DIRECTORY]")
]
ArtifactOption = Annotated[Path | None, typer.Option(help="The artifact's directory. [FINGERPOST_ARTIFACT_DIRECTORY]")]


def main() -> None:
    app()


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. [FINGERPOST_HOST]")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 lets the system choose. [FINGERPOST_PORT]")] = None,
    database: Database = None,
    artifact: ArtifactOption = None,
) -> None:
    """Serve over HTTP until interrupted. All other settings are environment variables, FINGERPOST_*."""
    settings = _settings(host=host, port=port, database_directory=database, artifact_directory=artifact)
    from models.artifact import ArtifactError
    from service.app import create_app
    from service.network import NetworkUnusable
    from service.server import serve as run

    try:
        run(create_app(settings), settings)
    except (ArtifactError, NetworkUnusable) as error:
        _fail(f"the artifact cannot be served: {error}")
    except OSError as error:
        _fail(f"cannot serve at {settings.host}:{settings.port}: {error.strerror or error}")


@app.command()
def locate(
    file: Annotated[Path, typer.Argument(help="A request or batch (.json), or fingerprints (.safetensors, .npz).")],
    url: Annotated[str, typer.Option(help="Where the service answers.")] = "http://127.0.0.1:8080",
    rows: Annotated[int, typer.Option(min=1, max=256, help="How many fingerprints of the file, at most.")] = 10,
    sigma: Annotated[float, typer.Option(min=0, help="Blur of their positions, which serve as coarse ones, m.")] = 1.0,
    coarse: Annotated[bool, typer.Option(help="Whether to send coarse positions of fingerprints at all.")] = True,
) -> None:
    """Locate the users of a file and print where they are."""
    from service import client

    try:
        users = client.read_users(file, rows, sigma if coarse else None)
        results = client.locate(url, users)
    except client.ClientError as error:
        _fail(str(error))
    _print_locations(users, results)
    if any("problem" in result for result in results):
        raise typer.Exit(1)


@cells.command("import")
def import_cell(
    cell: Annotated[str, typer.Argument(help="The cell's name, as requests will say it.")],
    file: Annotated[Path, typer.Argument(help="Its fingerprints: .safetensors or .npz.")],
    cell_file: Annotated[
        Path | None, typer.Option(help="The cell's description as JSON, where the file has none.")
    ] = None,
    database: Database = None,
    artifact: ArtifactOption = None,
    note: Annotated[str, typer.Option(help="Kept with the version.")] = "",
    calibrate: Annotated[bool, typer.Option(help="Measure the artifact's errors in the cell, once and now.")] = True,
) -> None:
    """Create a cell, or replace all its fingerprints. A bad file changes nothing."""
    settings = _settings(database_directory=database, artifact_directory=artifact)
    from models.artifact import ArtifactError
    from reference_db.errors import ReferenceDatabaseError
    from service.cell_import import import_cell as run
    from service.errors import ServiceError
    from service.network import NetworkUnusable

    try:
        manifest = run(settings, cell, file, cell_file, note, calibrated=calibrate)
    except ReferenceDatabaseError as error:
        _fail(f"{file.name} not imported: {error}")
    except ServiceError as error:
        _fail(f"{file.name} not imported: {error.detail}")
    except (ArtifactError, NetworkUnusable) as error:
        _fail(f"the artifact cannot be used: {error}")
    except OSError as error:
        _fail(f"{file.name} not imported: {error}")
    _print_cell(manifest)


@cells.command("list")
def list_cells(database: Database = None) -> None:
    """List the cells of the database."""
    settings = _settings(database_directory=database)
    from rich.table import Table

    from service.cells import fingerprints_in

    table = Table("cell", "version", "fingerprints", "created", "note")
    for cell_id in _store(settings).cells():
        manifest = _current(settings, cell_id)
        created = manifest.created_at.isoformat(timespec="seconds")
        table.add_row(cell_id, manifest.version, str(fingerprints_in(manifest)), created, manifest.change.note)
    _console().print(table)


@cells.command("show")
def show_cell(
    cell: Annotated[str, typer.Argument(help="The cell's name.")],
    database: Database = None,
    json: Annotated[bool, typer.Option("--json", help="As GET /cells/{cellId} has it.")] = False,
) -> None:
    """Show a cell: what it is, and how well users are located in it."""
    manifest = _current(_settings(database_directory=database), cell)
    if json:
        import msgspec

        from service.cells import cell_detail

        typer.echo(msgspec.json.format(msgspec.json.encode(cell_detail(manifest)), indent=2))
    else:
        _print_cell(manifest)


def _settings(**given: Any) -> "Settings":
    from pydantic import ValidationError

    from service.settings import Settings

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        _fail("; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()))


def _store(settings: "Settings") -> Any:
    from reference_db.directory_store import DirectoryStore

    return DirectoryStore(settings.database_directory)


def _current(settings: "Settings", cell_id: str) -> "Manifest":
    from reference_db.errors import ReferenceDatabaseError

    try:
        manifest: Manifest | None = _store(settings).current(cell_id)
    except (ReferenceDatabaseError, ValueError) as error:
        _fail(str(error))
    if manifest is None:
        _fail(f"no cell {cell_id!r} in {settings.database_directory}")
    return manifest


def _print_cell(manifest: "Manifest") -> None:
    import math

    from rich.table import Table

    from service.calibration import Calibration
    from service.cells import fingerprints_in

    cell, console = manifest.cell, _console()
    facts = Table(show_header=False, box=None)
    for name, value in (
        ("cell", cell.cell_id),
        ("version", manifest.version),
        ("fingerprints", str(fingerprints_in(manifest))),
        ("base station", f"{cell.latitude_deg:.6f}, {cell.longitude_deg:.6f}, {cell.height:g} m high"),
        (
            "array",
            f"{cell.array.rows} x {cell.array.columns}, broadside {math.degrees(cell.yaw):.1f}° from east",
        ),
        (
            "carrier",
            f"{cell.carrier_frequency / 1e9:g} GHz, {cell.bandwidth / 1e6:g} MHz, {cell.subcarriers} subcarriers",
        ),
    ):
        facts.add_row(name, value)
    console.print(facts)
    for calibration in Calibration.all_of_quality(manifest.quality):
        title = f"{calibration.artifact}: errors in metres, {calibration.samples} fingerprints left out in turn"
        errors = Table(
            "coarse position",
            "mean",
            "median",
            "95 %",
            f"stated radius ({calibration.confidence:.0%})",
            title=title,
        )
        for rung in calibration.rungs:
            figures = (rung.mean, rung.median, rung.p95, rung.radius)
            position = "none" if rung.sigma is None else f"± {rung.sigma:g} m"
            errors.add_row(position, *(f"{figure:.2f}" for figure in figures))
        console.print(errors)


def _print_locations(users: list[Any], results: list[dict[str, Any]]) -> None:
    import math

    from rich.table import Table

    table = Table("user", "lat", "lon", "x (m)", "y (m)", "95 % radius (m)", "error (m)")
    for i, (user, result) in enumerate(zip(users, results, strict=True)):
        if "problem" in result:
            table.add_row(str(i), f"[red]{result['problem']['cause']}[/red]", "", "", "", "", "")
            continue
        location = result["location"]
        point, local = location["locationEstimate"]["point"], location["localLocationEstimate"]["point"]
        error = "" if user.truth is None else f"{math.dist(user.truth, (local['x'], local['y'])):.2f}"
        metres = (local["x"], local["y"], location["hAccuracy"])
        table.add_row(
            str(i),
            f"{point['lat']:.7f}",
            f"{point['lon']:.7f}",
            *(f"{figure:.2f}" for figure in metres),
            error,
        )
    _console().print(table)


def _console() -> Any:
    from rich.console import Console

    return Console()


def _fail(message: str) -> NoReturn:
    typer.secho(f"fingerpost: {message}", fg=typer.colors.RED, err=True)
    raise typer.Exit(1)
