"""Options and arguments of the commands about cells, and how their values are read."""

import getpass
import math
import re
import socket
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from service.commands.completion import complete_cells
from service.commands.options import reject


def _prefer_typed_database(context: typer.Context, url: str | None) -> str | None:
    """None where the URL is that of the environment and --database was typed."""
    source = context.get_parameter_source("url")
    of_environment = source is not None and source.name == "ENVIRONMENT"
    return None if of_environment and context.params.get("database") else url


CellName = Annotated[
    str, typer.Argument(help="Name of the cell: the cellId of requests.", autocompletion=complete_cells)
]
SurveyFile = Annotated[
    Path,
    typer.Argument(
        help="File of fingerprints: .safetensors, .npz, .npy (next to positions.npy), .csv, .mat, .h5, .tfrecords, or "
        "a Wi-Fi capture (.pcap, .dat) next to positions.csv."
    ),
]
CellFile = Annotated[Path | None, typer.Option(help="Description of the cell as JSON, if the file has none.")]
VersionName = Annotated[str, typer.Argument(help="A version such as 3-ab12cd34ef56, or only its number.")]

Url = Annotated[
    str | None,
    typer.Option(
        envvar="FINGERPOST_URL",
        callback=_prefer_typed_database,
        help="URL of a running service. Without it, this command opens the database itself. An API key is read from "
        "FINGERPOST_KEY.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the API's JSON instead of a table.")]

Note = Annotated[str, typer.Option(help="Reason for the change, kept with the version.")]
Author = Annotated[
    str | None, typer.Option(help="Author of the change, kept with the version.", show_default="USER@HOST")
]
IfMatch = Annotated[
    str | None, typer.Option(metavar="VERSION", help="Make the change only if this is the cell's current version.")
]
Key = Annotated[
    str | None,
    typer.Option("--idempotency-key", metavar="KEY", help="Do nothing if a change with this key was made before."),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Publish even if the model locates users much worse, or cannot serve the cell."),
]

_CELL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VERSION = re.compile(r"[a-z0-9-]+")


class ModelPolicy(StrEnum):
    auto = "auto"
    mateformer = "mateformer"
    scadf_moe = "scadf-moe"
    lwlm = "lwlm"


class Change(NamedTuple):
    """Query parameters and headers of a request that changes a cell."""

    params: dict[str, str]
    headers: dict[str, str]


def make_change(note: str, author: str | None, if_match: str | None, key: str | None, force: bool) -> Change:
    """The options that all changes have, as the API takes them."""
    params = {"note": note, "author": name_author(author), "force": str(force).lower()}
    headers = {"If-Match": if_match, "Idempotency-Key": key}
    return Change(params, {name: value for name, value in headers.items() if value is not None})


def cell_path(cell: str, *rest: str) -> str:
    """The URL path of a cell. Exits if the cell's name or another part would lead to a different path."""
    if not _CELL.fullmatch(cell):
        reject(f"{cell!r} is not a cell name")
    for part in rest:
        if not _VERSION.fullmatch(part):
            reject(f"{part!r} is not a version")
    return "/".join(["/cells", cell, *rest])


def parse_numbers(text: str, names: tuple[str, ...]) -> dict[str, float]:
    """Finite numbers by name, from a text such as ``1,2,3``. Exits if there are more or fewer numbers than names."""
    try:
        numbers = dict(zip(names, map(float, text.split(",")), strict=True))
    except ValueError:
        reject(f"{text!r} is not {','.join(names)}")
    if not all(map(math.isfinite, numbers.values())):
        reject(f"{text!r} has NaN or infinity")
    return numbers


def read_duration(text: str, option: str, *, needs_unit: bool = False) -> float:
    """Seconds, from a text such as ``30d``. Exits for any other; with `needs_unit` also for a number alone."""
    from service.durations import parse_duration

    try:
        seconds = parse_duration(text)
    except ValueError as error:
        reject(f"{option} {text!r} {error}")
    if needs_unit and seconds and text.strip()[-1] in "0123456789.":
        reject(f"{option} {text!r} has no unit: write {text.strip()}d for days, or h, m, s")
    return seconds


def parse_timestamp(text: str) -> str:
    """An ISO 8601 time with its time zone. A time without a zone is local time. Exits for any other text."""
    try:
        return datetime.fromisoformat(text).astimezone().isoformat()
    except (ValueError, OverflowError):  # the last and the first day, where the time zone leads out of the calendar
        reject(f"{text!r} is not a time such as 2026-01-31 or 2026-01-31T12:00:00+01:00")


def name_author(author: str | None) -> str:
    """The author of a change: as stated, else USER@HOST."""
    if author is not None:
        return author
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # many containers have a user id without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
