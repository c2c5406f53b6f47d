"""Options that several commands have, the settings made from them, and error messages."""

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


def load_settings(database: str | None = None, **options: Any) -> "Settings":
    """Settings from the environment, overridden by the options that are not None. Exits if a value is wrong."""
    from pydantic import ValidationError

    from service.settings import Settings

    chosen = {name: value for name, value in options.items() if value is not None}
    if database is not None:
        is_redis = "://" in database
        chosen |= {"redis_url": database} if is_redis else {"redis_url": None, "database_directory": database}
    try:
        return Settings(**chosen)
    except ValidationError as error:
        fail("; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()))


def fail(message: str) -> NoReturn:
    """Prints an error message and exits with status 1."""
    typer.secho(f"fingerpost: {message}", fg=typer.colors.RED, err=True)
    raise typer.Exit(1)


def console() -> "Console":
    """Standard output, as wide as the terminal is now."""
    from rich.console import Console

    return Console()
