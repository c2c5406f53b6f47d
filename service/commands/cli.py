"""The command line ``fingerpost``."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from fingerpost import __version__
from reference_db.durable_file import NO_ROOM
from service.commands import (
    cell_backups,
    cell_changes,
    cell_check,
    cell_conversions,
    cell_imports,
    cell_removals,
    cell_truths,
    cells,
    keys,
    layout_options,
    models,
)
from service.commands.cell_options import CellFile
from service.commands.credentials import read_credentials
from service.commands.locations import MOST_IN_A_BATCH, print_location_lines, print_locations
from service.commands.options import (
    ArtifactOption,
    Database,
    fail,
    load_settings,
    reject,
    require_finite,
    warn_of_unknown_variables,
)

if TYPE_CHECKING:
    from fingerpost import LocateResponse
    from service.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
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
_cells.command("check")(cell_check.check)
_cells.command("convert")(cell_conversions.convert)
_cells.command("import")(cell_changes.import_cell)
_cells.command("import-all")(cell_imports.import_all)
_cells.command("create")(cell_changes.create)
_cells.command("append")(cell_changes.append)
_cells.command("delete")(cell_removals.delete)
_cells.command("forget")(cell_removals.forget)
_cells.command("correct")(cell_changes.correct)
_cells.command("gc")(cell_removals.collect)
_cells.command("rollback")(cell_changes.roll_back)
_cells.command("retention")(cell_changes.retention)
_cells.command("model")(cell_changes.model)
_cells.command("truths")(cell_truths.truths)
_cells.command("backup")(cell_backups.backup)
_cells.command("restore")(cell_backups.restore)
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
    """Runs the command of `sys.argv`. Exits with status 1 if its output cannot be written, as on a full disk."""
    try:
        app()
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        with suppress(OSError), open(os.devnull, "w") as nowhere:  # what is left to write would fail again at the exit
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        sys.exit(f"fingerpost: the output cannot be written: {error.strerror}")


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
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that serve the port together, behind HAProxy. Overrides FINGERPOST_WORKERS.",
            show_default="1",
        ),
    ] = None,
    database: Database = None,
    artifact: ArtifactOption = None,
    worker: Annotated[tuple[int, Path] | None, typer.Option(hidden=True, help="Number and socket.")] = None,
) -> None:
    """Run the service until it is stopped. All other settings are environment variables FINGERPOST_*."""
    if worker is None:  # else the parent has warned
        warn_of_unknown_variables(os.environ.get("FINGERPOST_LOG_FORMAT", "line"))
    settings = load_settings(database, host=host, port=port, workers=workers, artifact_directory=artifact)
    if settings.workers > 1 and worker is None:
        _serve_with_workers(settings)
    from models.artifact import ArtifactError
    from service.app import create_app
    from service.auth.keys import KeysUnreadable
    from service.console.outlines import OutlinesUnreadable
    from service.inference.session import ModelUnusable
    from service.listening import Unguarded
    from service.server import ListeningWorker, give_back_large_arrays, give_way_to_balancer
    from service.server import serve as run_server
    from service.telemetry.tracing import TracingMissing
    from service.web.health import Draining
    from service.web.tls import TlsUnusable

    give_back_large_arrays()
    if worker is not None:
        give_way_to_balancer()
    draining = Draining()
    listening = None if worker is None else ListeningWorker(*worker)
    try:
        service = create_app(settings, draining, examines_apart=True)
        state = service.state
        parts = state.served_parts
        run_server(service, settings, draining, state.background, state.metrics, parts, state.crowd, listening)
    except (KeysUnreadable, OutlinesUnreadable, TlsUnusable, TracingMissing, Unguarded) as error:
        fail(str(error))
    except (ArtifactError, ModelUnusable) as error:
        fail(f"the artifact cannot be served: {error}")
    except OSError as error:
        _fail_to_listen(settings, error)


def _serve_with_workers(settings: "Settings") -> NoReturn:
    from service.listening import Unguarded
    from service.web.tls import TlsUnusable
    from service.workers.balancer import BalancerFailed
    from service.workers.haproxy import HaproxyMissing
    from service.workers.parent import WorkerFailed, serve_with_workers

    try:
        status = serve_with_workers(settings)
    except HaproxyMissing as error:
        reject(str(error))
    except (BalancerFailed, TlsUnusable, Unguarded) as error:
        fail(str(error))
    except WorkerFailed as error:
        raise typer.Exit(error.status) from None
    except OSError as error:
        _fail_to_listen(settings, error)
    raise typer.Exit(status)


def _fail_to_listen(settings: "Settings", error: OSError) -> NoReturn:
    fail(f"cannot serve at {settings.host}:{settings.port}: {error.strerror or error}")


@app.command()
def locate(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="A request or batch (.json), or a file of fingerprints (.safetensors, .npz, .npy, .csv, .mat, .h5). "
            "With a file for each of several base stations, all of the same users row by row, each user is located by "
            "all of them together."
        ),
    ],
    url: Annotated[str, typer.Option(envvar="FINGERPOST_URL", help="URL of the service.")] = "http://127.0.0.1:8080",
    rows: Annotated[int, typer.Option(min=1, help="Number of fingerprints to locate, at most.")] = 10,
    sigma: Annotated[
        float,
        typer.Option(
            min=0,
            max=1e6,
            callback=require_finite,
            help="1-sigma error, in metres, added to fingerprint positions for coarse positions.",
        ),
    ] = 1.0,
    coarse: Annotated[bool, typer.Option(help="Send coarse positions with fingerprints.")] = True,
    cell_file: CellFile = None,
    axes: layout_options.AxesOption = None,
    conjugate: layout_options.ConjugateOption = False,
    subcarrier_order: layout_options.SubcarrierOrderOption = layout_options.SubcarrierOrder.ascending,
    units: layout_options.UnitsOption = layout_options.Units.m,
    field: layout_options.FieldOption = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print a line of JSON for each user, as soon as it is located, not a table.")
    ] = False,
) -> None:
    """Locate the users in files and print their positions. An API key is read from FINGERPOST_KEY."""
    from fingerpost import Client, ClientError, Problem
    from service.commands.user_file import read_users, read_users_of_stations

    credentials = read_credentials()
    layout = layout_options.make_layout(axes, conjugate, subcarrier_order, units, field)
    cell = None if cell_file is None else layout_options.read_description(cell_file, None)
    if cell is not None and len(files) > 1:
        reject("--cell-file describes the cell of one file; with several, each has its description inside")
    try:
        if len(files) > 1:
            users = read_users_of_stations(files, rows, layout)
        else:
            users = read_users(files[0], rows, sigma if coarse else None, cell, layout)
        results: list[LocateResponse | Problem] = []
        with Client(url, credentials.key, verify=credentials.verify) as client:
            for first in range(0, len(users), MOST_IN_A_BATCH):
                portion = users[first : first + MOST_IN_A_BATCH]
                located = client.locate_batch([user.request for user in portion])
                if json:
                    print_location_lines(first, portion, located)
                results += located
    except ClientError as error:
        fail(str(error))
    if not json:
        print_locations(users, results)
    if any(isinstance(result, Problem) for result in results):
        raise typer.Exit(1)
