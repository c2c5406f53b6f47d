"""What the commands have in common: options, settings, and how they fail."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from service.settings import Settings

Database = Annotated[
    str | None,
    typer.Option(
        help="The reference database: a directory, or redis://HOST. [FINGERPOST_DATABASE_DIRECTORY, _REDIS_URL]"
    ),
]
ArtifactOption = Annotated[Path | None, typer.Option(help="The artifact's directory. [FINGERPOST_ARTIFACT_DIRECTORY]")]


def settings_of(database: str | None = None, **given: Any) -> "Settings":
    """Settings from the environment, and from options where they are given; exits where they are wrong."""
    from pydantic import ValidationError

    from service.settings import Settings

    chosen = {name: value for name, value in given.items() if value is not None}
    if database is not None:
        in_redis = "://" in database
        chosen |= {"redis_url": database} if in_redis else {"redis_url": None, "database_directory": database}
    try:
        return Settings(**chosen)
    except ValidationError as error:
        fail("; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()))


def fail(message: str) -> NoReturn:
    typer.secho(f"fingerpost: {message}", fg=typer.colors.RED, err=True)
    raise typer.Exit(1)


def console() -> Any:
    from rich.console import Console

    return Console()
