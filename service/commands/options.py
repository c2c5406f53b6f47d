"""Options that several commands have, the settings made from them, and error messages."""

import json
import logging
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from service.settings import Settings

Database = Annotated[
    str | None,
    typer.Option(help="Reference database: a directory, or redis://HOST. Without it, the one of the settings."),
]
ArtifactOption = Annotated[
    Path | None, typer.Option(help="Directory of the model's artifact. Without it, the one of the settings.")
]

_OPTIONS = {"redis_url": "--database", "database_directory": "--database", "artifact_directory": "--artifact"}


def load_settings(database: str | None = None, **options: Any) -> "Settings":
    """Settings from the environment, overridden by the options that are not None. Exits if a value is wrong."""
    from pydantic import ValidationError

    from service.settings import Settings
    from service.wrong_settings import describe_wrong_settings

    chosen = {name: value for name, value in options.items() if value is not None}
    if database is not None:
        is_redis = "://" in database
        chosen |= {"redis_url": database} if is_redis else {"redis_url": None, "database_directory": database}
    try:
        return Settings(**chosen)
    except ValidationError as error:
        given = {name: _OPTIONS.get(name, f"--{name}") for name in chosen}
        reject(describe_wrong_settings(error, given))


def warn_of_unknown_variables(log_format: str = "line") -> None:
    """Warns of environment variables FINGERPOST_* that nothing reads. In JSON, as a line of the log, if logs are."""
    from service.wrong_settings import find_unknown_variables

    for complaint in find_unknown_variables(os.environ):
        if log_format == "json":
            from service.telemetry.logs import JsonFormatter

            record = {"name": "fingerpost.settings", "levelname": "WARNING", "msg": complaint}
            typer.echo(JsonFormatter().format(logging.makeLogRecord(record)), err=True)
            continue
        typer.secho(f"fingerpost: warning: {complaint}", fg=typer.colors.YELLOW, err=True)


def require_finite(value: float | None) -> float | None:
    """The callback of options with a number. Exits for NaN and infinity, which `float` reads."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number")
    return value


def print_json(document: object) -> None:
    """Prints one JSON document."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def fail(message: str) -> NoReturn:
    """Says why nothing was done, each line under the name of the program, and exits with status 1."""
    _exit(message, 1)


def reject(message: str) -> NoReturn:
    """Says what is wrong with the command as it was typed, or with a setting, and exits with status 2."""
    _exit(message, 2)


def _exit(message: str, status: int) -> NoReturn:
    for line in message.splitlines():
        indented = line.startswith(" ")
        typer.secho(line if indented else f"fingerpost: {line}", fg=typer.colors.RED, err=True)
    raise typer.Exit(status)


def console() -> "Console":
    """Standard output, as wide as the terminal is now."""
    from rich.console import Console

    return Console()
