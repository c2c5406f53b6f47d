"""The command line ``fingerpost``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from fingerpost import __version__
from service.commands import cell_changes, cell_removals, cells, keys, models
from service.commands.credentials import read_credentials
from service.commands.options import ArtifactOption, Database, console, fail, load_settings, warn_of_unknown_variables
from service.commands.tables import make_table, number_column, print_table

if TYPE_CHECKING:
    from fingerpost import LocateResponse, Problem
    from service.commands.user_file import FileUser

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Fingerpost locates radio users from the channel state information (CSI) that a base station measures.",
)

_cells = typer.Typer(no_args_is_help=True, help="Read and change the cells of the reference database.")
_cells.command("list")(cells.list_cells)
_cells.command("show")(cells.show_cell)
_cells.command("versions")(cells.list_versions)
_cells.command("diff")(cells.diff)
_cells.command("fingerprints")(cells.list_fingerprints)
_cells.command("export")(cells.export)
_cells.command("import")(cell_changes.import_cell)
_cells.command("create")(cell_changes.create)
_cells.command("append")(cell_changes.append)
_cells.command("delete")(cell_removals.delete)
_cells.command("forget")(cell_removals.forget)
_cells.command("correct")(cell_changes.correct)
_cells.command("gc")(cell_removals.collect)
_cells.command("rollback")(cell_changes.roll_back)
_cells.command("retention")(cell_changes.retention)
_cells.command("model")(cell_changes.model)
app.add_typer(_cells, name="cells")

_keys = typer.Typer(no_args_is_help=True, help="Make, list and revoke the API keys of a service.")
_keys.command("add")(keys.add)
_keys.command("list")(keys.list_keys)
_keys.command("revoke")(keys.revoke)
app.add_typer(_keys, name="keys")

_models = typer.Typer(no_args_is_help=True, help="List the models of a running service and activate one.")
_models.command("list")(models.list_models)
_models.command("activate")(models.activate)
app.add_typer(_models, name="models")


def main() -> None:
    """Runs the command of `sys.argv`."""
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fingerpost {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. Overrides FINGERPOST_HOST.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port; 0 lets the system choose one. Overrides FINGERPOST_PORT.", show_default="8080"),
    ] = None,
    database: Database = None,
    artifact: ArtifactOption = None,
) -> None:
    """Run the service until it is stopped. All other settings are environment variables FINGERPOST_*."""
    warn_of_unknown_variables()
    settings = load_settings(database, host=host, port=port, artifact_directory=artifact)
    from models.artifact import ArtifactError
    from service.app import create_app
    from service.auth.keys import KeysUnreadable
    from service.inference.session import ModelUnusable
    from service.server import Unguarded, give_back_large_arrays
    from service.server import serve as run_server
    from service.telemetry.tracing import TracingMissing
    from service.web.health import Draining
    from service.web.tls import TlsUnusable

    give_back_large_arrays()
    draining = Draining()
    try:
        service = create_app(settings, draining)
        run_server(service, settings, draining, service.state.background, service.state.metrics)
    except (KeysUnreadable, TlsUnusable, TracingMissing, Unguarded) as error:
        fail(str(error))
    except (ArtifactError, ModelUnusable) as error:
        fail(f"the artifact cannot be served: {error}")
    except OSError as error:
        fail(f"cannot serve at {settings.host}:{settings.port}: {error.strerror or error}")


@app.command()
def locate(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="A request or batch (.json), or a file of fingerprints (.safetensors, .npz). With a file for each of "
            "several base stations, all of the same users row by row, each user is located by all of them together."
        ),
    ],
    url: Annotated[str, typer.Option(help="URL of the service.")] = "http://127.0.0.1:8080",
    rows: Annotated[int, typer.Option(min=1, max=256, help="Number of fingerprints to locate, at most.")] = 10,
    sigma: Annotated[
        float,
        typer.Option(
            min=0, max=1e6, help="1-sigma error, in metres, added to fingerprint positions for coarse positions."
        ),
    ] = 1.0,
    coarse: Annotated[bool, typer.Option(help="Send coarse positions with fingerprints.")] = True,
) -> None:
    """Locate the users in files and print their positions. An API key is read from FINGERPOST_KEY."""
    from fingerpost import Client, ClientError, Problem
    from service.commands.user_file import read_users, read_users_of_stations

    credentials = read_credentials()
    try:
        if len(files) > 1:
            users = read_users_of_stations(files, rows)
        else:
            users = read_users(files[0], rows, sigma if coarse else None)
        with Client(url, credentials.key, verify=credentials.verify) as client:
            results = client.locate_batch([user.request for user in users])
    except ClientError as error:
        fail(str(error))
    _print_locations(users, results)
    if any(isinstance(result, Problem) for result in results):
        raise typer.Exit(1)


def _print_locations(users: "list[FileUser]", results: "list[LocateResponse | Problem]") -> None:
    import math

    from fingerpost import Problem

    names = ("user", "lat", "lon", "x (m)", "y (m)", "95 % radius (m)", "error (m)")
    table = make_table(*map(number_column, names))
    for number, (user, result) in enumerate(zip(users, results, strict=True)):
        if isinstance(result, Problem):
            continue
        point, local = result.location_estimate.point, result.local_location_estimate.point
        error = "" if user.truth is None else f"{math.dist(user.truth, (local.x, local.y)):.2f}"
        degrees = (f"{point.lat:.7f}", f"{point.lon:.7f}")
        metres = (f"{length:.2f}" for length in (local.x, local.y, result.h_accuracy))
        table.add_row(str(number), *degrees, *metres, error)
    if table.row_count:
        print_table(table)
    for number, result in enumerate(results):
        if isinstance(result, Problem):
            console().print(f"user {number}: [red]{result.cause}[/red]: {escape(result.detail)}", highlight=False)
