"""``fingerpost``: serve, ask, look after cells. Heavy parts are imported by the commands that need them."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from service.commands import cell_changes as changes
from service.commands import cells as shown
from service.commands import keys, models
from service.commands.identity import identity_of_environment
from service.commands.options import ArtifactOption, Database, console, fail, settings_of

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Locates radio users from their channel.")
cells = typer.Typer(no_args_is_help=True, help="The cells of the reference database.")
app.add_typer(cells, name="cells")
key_commands = typer.Typer(no_args_is_help=True, help="The API keys that let users, operators and monitors in.")
app.add_typer(key_commands, name="keys")
key_commands.command("add")(keys.add)
key_commands.command("list")(keys.list_keys)
key_commands.command("revoke")(keys.revoke)
model_commands = typer.Typer(no_args_is_help=True, help="The artifacts that locate users.")
app.add_typer(model_commands, name="models")
model_commands.command("list")(models.list_models)
model_commands.command("activate")(models.activate)
_COMMANDS: dict[str, Callable[..., None]] = {
    "list": shown.list_cells,
    "show": shown.show_cell,
    "versions": shown.list_versions,
    "diff": shown.diff,
    "fingerprints": shown.list_fingerprints,
    "import": changes.import_cell,
    "create": changes.create,
    "append": changes.append,
    "delete": changes.delete,
    "rollback": changes.roll_back,
    "retention": changes.retention,
    "model": changes.model,
    "export": shown.export,
}
for _name, _command in _COMMANDS.items():
    cells.command(_name)(_command)


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
    settings = settings_of(database, host=host, port=port, artifact_directory=artifact)
    from models.artifact import ArtifactError
    from service.app import create_app
    from service.auth.keys import KeysUnreadable
    from service.inference.session import ModelUnusable
    from service.server import Unguarded, give_back_large_arrays
    from service.server import serve as run
    from service.telemetry.tracing import TracingMissing
    from service.web.health import Draining
    from service.web.tls import TlsUnusable

    give_back_large_arrays()
    draining = Draining()
    try:
        run(create_app(settings, draining), settings, draining)
    except (KeysUnreadable, TlsUnusable, TracingMissing, Unguarded) as error:
        fail(str(error))
    except (ArtifactError, ModelUnusable) as error:
        fail(f"the artifact cannot be served: {error}")
    except OSError as error:
        fail(f"cannot serve at {settings.host}:{settings.port}: {error.strerror or error}")


@app.command()
def locate(
    file: Annotated[Path, typer.Argument(help="A request or batch (.json), or fingerprints (.safetensors, .npz).")],
    url: Annotated[str, typer.Option(help="Where the service answers.")] = "http://127.0.0.1:8080",
    rows: Annotated[int, typer.Option(min=1, max=256, help="How many fingerprints of the file, at most.")] = 10,
    sigma: Annotated[float, typer.Option(min=0, help="Blur of their positions, which serve as coarse ones, m.")] = 1.0,
    coarse: Annotated[bool, typer.Option(help="Whether to send coarse positions of fingerprints at all.")] = True,
) -> None:
    """Locate the users of a file and print where they are. An API key is taken from FINGERPOST_KEY."""
    from fingerpost.client import Client, ClientError
    from fingerpost.user_file import read_users
    from fingerpost.wire import Problem

    try:
        users = read_users(file, rows, sigma if coarse else None)
        identity = identity_of_environment()
        with Client(url, identity.key, verify=identity.verify) as client:
            results = client.locate_batch([user.request for user in users])
    except ClientError as error:
        fail(str(error))
    _print_locations(users, results)
    if any(isinstance(result, Problem) for result in results):
        raise typer.Exit(1)


def _print_locations(users: list[Any], results: list[Any]) -> None:
    import math

    from rich.table import Table

    from fingerpost.wire import Problem

    table = Table("user", "lat", "lon", "x (m)", "y (m)", "95 % radius (m)", "error (m)")
    for i, (user, result) in enumerate(zip(users, results, strict=True)):
        if isinstance(result, Problem):
            table.add_row(str(i), f"[red]{result.cause}[/red]", "", "", "", "", "")
            continue
        point, local = result.location_estimate.point, result.local_location_estimate.point
        error = "" if user.truth is None else f"{math.dist(user.truth, (local.x, local.y)):.2f}"
        metres = (local.x, local.y, result.h_accuracy)
        table.add_row(
            str(i),
            f"{point.lat:.7f}",
            f"{point.lon:.7f}",
            *(f"{figure:.2f}" for figure in metres),
            error,
        )
    console().print(table)
