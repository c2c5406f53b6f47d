"""Options of the commands about cells."""

import getpass
import re
import socket
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from service.commands.options import fail

CellName = Annotated[str, typer.Argument(help="The cell's name, as requests say it.")]
FingerprintFile = Annotated[Path, typer.Argument(help="Fingerprints: .safetensors or .npz.")]
VersionName = Annotated[str, typer.Argument(help="A version, as in 3-ab12cd34ef56, or its number.")]

Url = Annotated[
    str | None,
    typer.Option(
        help="Where a service answers, asked with the API key FINGERPOST_KEY if there is one; without it this command "
        "itself opens the database."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="As the API answers it.")]

Note = Annotated[str, typer.Option(help="Why; kept with the version.")]
Author = Annotated[str | None, typer.Option(help="Who; kept with the version. Default: USER@HOST.")]
IfMatch = Annotated[str | None, typer.Option(metavar="VERSION", help="Only if this is the cell's current version.")]
Key = Annotated[
    str | None,
    typer.Option("--idempotency-key", metavar="KEY", help="A change that was made with this key is not made again."),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Even if users would be located far worse, or the artifact cannot serve the cell."),
]

_CELL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class ModelPolicy(StrEnum):
    auto = "auto"
    mateformer = "mateformer"
    scadf_moe = "scadf-moe"


class Change(NamedTuple):
    """What every change says beside itself, as the API wants it."""

    params: dict[str, str]
    headers: dict[str, str]


def change_of(note: str, author: str | None, if_match: str | None, key: str | None, force: bool) -> Change:
    params = {"note": note, "author": _somebody() if author is None else author, "force": str(force).lower()}
    headers = {"If-Match": if_match, "Idempotency-Key": key}
    return Change(params, {name: value for name, value in headers.items() if value is not None})


def path_of(cell: str, *rest: str) -> str:
    """Exits for what can be no cell's name: it must not become another path."""
    if not _CELL.fullmatch(cell):
        fail(f"{cell!r} can be no cell's name")
    if wrong := [part for part in rest if not re.fullmatch(r"[a-z0-9-]+", part)]:
        fail(f"{wrong[0]!r} can be no version")
    return "/".join(["/cells", cell, *rest])


def numbers_in(text: str, names: tuple[str, ...]) -> dict[str, float]:
    """``1,2,3`` as a number a name."""
    try:
        return dict(zip(names, map(float, text.split(",")), strict=True))
    except ValueError:
        fail(f"{text!r} is not {','.join(names)}")


def seconds_in(text: str) -> float:
    """``90d`` as seconds; likewise h, m and s."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd])", text)
    if found is None:
        fail(f"{text!r} is no time like 90d, 12h, 30m or 45s")
    return float(found[1]) * _UNITS[found[2]]


def timestamp_in(text: str) -> str:
    """ISO 8601; of this machine's time zone where it names none."""
    try:
        return datetime.fromisoformat(text).astimezone().isoformat()
    except ValueError:
        fail(f"{text!r} is no time like 2026-01-31 or 2026-01-31T12:00:00+01:00")


def _somebody() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # an account without a name, as in many containers
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
