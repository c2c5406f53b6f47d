"""Options that several commands have, the settings made from them, and error messages."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from service.settings import Settings

Database = Annotated[
    str | None,
    typer.Option(
        help="Reference database: a directory, or redis://HOST. Overrides FINGERPOST_DATABASE_DIRECTORY and "
        "FINGERPOST_REDIS_URL."
    ),
]
ArtifactOption = Annotated[
    Path | None, typer.Option(help="Directory of the model's artifact. Overrides FINGERPOST_ARTIFACT_DIRECTORY.")
]

_OPTIONS = {"redis_url": "--database", "database_directory": "--database", "artifact_directory": "--artifact"}


def load_settings(database: str | None = None, **options: Any) -> "Settings":
    """Settings from the environment, overridden by the options that are not None. Exits if a value is wrong."""
    from pydantic import ValidationError

    from service.settings import Settings, describe_wrong_settings

    chosen = {name: value for name, value in options.items() if value is not None}
    if database is not None:
        is_redis = "://" in database
        chosen |= {"redis_url": database} if is_redis else {"redis_url": None, "database_directory": database}
    try:
        return Settings(**chosen)
    except ValidationError as error:
        given = {name: _OPTIONS.get(name, f"--{name}") for name in chosen}
        fail(describe_wrong_settings(error, given))


def warn_of_unknown_variables() -> None:
    """Warns of environment variables FINGERPOST_* that nothing reads."""
    from service.settings import find_unknown_variables

    for complaint in find_unknown_variables(os.environ):
        typer.secho(f"fingerpost: warning: {complaint}", fg=typer.colors.YELLOW, err=True)


def fail(message: str) -> NoReturn:
    """Prints an error message and exits with status 1."""
    typer.secho(f"fingerpost: {message}", fg=typer.colors.RED, err=True)
    raise typer.Exit(1)


def console() -> "Console":
    """Standard output, as wide as the terminal is now."""
    from rich.console import Console

    return Console()
