"""``fingerpost cells``: what operators change."""

import json as json_format
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands import cell_tables
from service.commands.api_session import Where, good, talk
from service.commands.cell_options import (
    Author,
    CellName,
    Change,
    FingerprintFile,
    Force,
    IfMatch,
    Json,
    Key,
    ModelPolicy,
    Note,
    Url,
    VersionName,
    change_of,
    numbers_in,
    path_of,
    seconds_in,
    timestamp_in,
)
from service.commands.cell_tables import show
from service.commands.options import ArtifactOption, Database, fail
from service.commands.transfer import send_file

if TYPE_CHECKING:
    import httpx


def import_cell(
    cell: CellName,
    file: FingerprintFile,
    cell_file: Annotated[
        Path | None, typer.Option(help="The cell's description as JSON, where the file has none.")
    ] = None,
    url: Url = None,
    database: Database = None,
    artifact: ArtifactOption = None,
    note: Note = "",
    author: Author = None,
    if_match: IfMatch = None,
    key: Key = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Create a cell, or replace its description and all its fingerprints. A bad file changes nothing."""
    path, change = path_of(cell), change_of(note, author, if_match, key, force)
    with TemporaryDirectory() as folder:
        sent = file if cell_file is None else _described(file, cell_file, Path(folder))
        answer = _send(Where(url, database, artifact), "PUT", path, sent, change)
    show(answer, cell_tables.print_cell, json)


def create(
    cell: CellName,
    cell_file: Annotated[Path, typer.Option(help="Its description as JSON.")],
    url: Url = None,
    database: Database = None,
    artifact: ArtifactOption = None,
    note: Note = "",
    author: Author = None,
    key: Key = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Create a cell still without fingerprints."""
    path, change = path_of(cell), change_of(note, author, None, key, force)
    change.headers["If-None-Match"] = "*"
    body = {"cell": _wire_description(cell_file)}
    show(_post(Where(url, database, artifact), "PUT", path, body, change), cell_tables.print_cell, json)


def append(
    cell: CellName,
    file: FingerprintFile,
    url: Url = None,
    database: Database = None,
    artifact: ArtifactOption = None,
    note: Note = "",
    author: Author = None,
    if_match: IfMatch = None,
    key: Key = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Add a file's fingerprints to a cell. A bad file changes nothing."""
    path, change = path_of(cell, "fingerprints"), change_of(note, author, if_match, key, force)
    answer = _send(Where(url, database, artifact), "POST", path, file, change)
    show(answer, cell_tables.print_cell, json)


def delete(
    cell: CellName,
    ids: Annotated[list[str] | None, typer.Option("--id", help="This fingerprint; may be given often.")] = None,
    area: Annotated[
        str | None,
        typer.Option(metavar="W,S,E,N", help="Those in this rectangle, metres east and north of the base station."),
    ] = None,
    circle: Annotated[
        str | None, typer.Option(metavar="LAT,LON,RADIUS", help="Those within so many metres of a place.")
    ] = None,
    before: Annotated[str | None, typer.Option(metavar="TIME", help="Those measured before this (ISO 8601).")] = None,
    unknown_time: Annotated[
        bool, typer.Option("--unknown-time", help="Those of unknown time; with --before, these too.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many these are.")] = False,
    url: Url = None,
    database: Database = None,
    artifact: ArtifactOption = None,
    note: Note = "",
    author: Author = None,
    if_match: IfMatch = None,
    key: Key = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Take from a cell the fingerprints that meet all criteria given."""
    path, change = path_of(cell, "fingerprints", "delete"), change_of(note, author, if_match, key, force)
    selection = {
        "ids": ids or None,
        "area": area and numbers_in(area, ("west", "south", "east", "north")),
        "circle": circle and numbers_in(circle, ("lat", "lon", "radius")),
        "measuredBefore": before and timestamp_in(before),
        "unknownTime": unknown_time or None,
    }
    body = {name: value for name, value in selection.items() if value is not None}
    if dry_run:
        change.params["dryRun"] = "true"
    answer = _post(Where(url, database, artifact), "POST", path, body, change)
    show(answer, cell_tables.print_preview if dry_run else cell_tables.print_cell, json)


def roll_back(
    cell: CellName,
    version: VersionName,
    url: Url = None,
    database: Database = None,
    artifact: ArtifactOption = None,
    note: Note = "",
    author: Author = None,
    if_match: IfMatch = None,
    key: Key = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Publish an older version of a cell once more."""
    path, change = path_of(cell, "rollback"), change_of(note, author, if_match, key, force)
    answer = _post(Where(url, database, artifact), "POST", path, {"version": version}, change)
    show(answer, cell_tables.print_cell, json)


def retention(
    cell: CellName,
    max_age: Annotated[
        str | None, typer.Option(metavar="AGE", help="How long after they were measured: 90d, 12h, 30m, 45s.")
    ] = None,
    max_fingerprints: Annotated[int | None, typer.Option(min=1, help="How many; the newest stay.")] = None,
    min_spacing: Annotated[
        float | None, typer.Option(metavar="METRES", help="Of two nearer to each other the newer stays.")
    ] = None,
    keep_all: Annotated[bool, typer.Option("--keep-all", help="Without any limit.")] = False,
    url: Url = None,
    database: Database = None,
    artifact: ArtifactOption = None,
    note: Note = "",
    author: Author = None,
    if_match: IfMatch = None,
    key: Key = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Say how long a cell keeps its fingerprints; what is not given limits nothing. At once, and from now on."""
    path, change = path_of(cell, "retention"), change_of(note, author, if_match, key, force)
    limits = {
        "maxAgeS": None if max_age is None else seconds_in(max_age),
        "maxFingerprints": max_fingerprints,
        "minSpacingM": min_spacing,
    }
    if keep_all == any(limit is not None for limit in limits.values()):
        fail("either limits or --keep-all must be given")
    show(_post(Where(url, database, artifact), "PUT", path, limits, change), cell_tables.print_cell, json)


def model(
    cell: CellName,
    policy: Annotated[ModelPolicy, typer.Argument(help="Which networks may locate users in the cell.")],
    url: Url = None,
    database: Database = None,
    artifact: ArtifactOption = None,
    note: Note = "",
    author: Author = None,
    if_match: IfMatch = None,
    key: Key = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Say which networks may locate users in a cell: each on its own, or whichever can (auto)."""
    path, change = path_of(cell, "model"), change_of(note, author, if_match, key, force)
    answer = _post(Where(url, database, artifact), "PUT", path, {"policy": policy.value}, change)
    show(answer, cell_tables.print_cell, json)


def _send(where: Where, method: str, path: str, file: Path, change: Change) -> "httpx.Response":
    if file.suffix not in {".safetensors", ".npz"}:
        fail(f"{file.name}: neither .safetensors nor .npz")

    async def send(client: "httpx.AsyncClient") -> "httpx.Response":
        return good(await send_file(client, method, path, file, *change))

    try:
        return talk(where, send)
    except OSError as error:
        fail(f"{file.name} cannot be read: {error.strerror or error}")


def _post(where: Where, method: str, path: str, body: dict[str, Any], change: Change) -> "httpx.Response":
    async def post(client: "httpx.AsyncClient") -> "httpx.Response":
        return good(await client.request(method, path, params=change.params, headers=change.headers, json=body))

    return talk(where, post)


def _described(file: Path, cell_file: Path, folder: Path) -> Path:
    """The same fingerprints in a file that also holds their cell's description."""
    from reference_db.errors import ReferenceDatabaseError
    from reference_db.fingerprint_file import read_cell_file, read_fingerprint_file, write_fingerprint_file

    described = folder / f"{file.stem}.safetensors"
    try:
        write_fingerprint_file(described, *read_fingerprint_file(file, read_cell_file(cell_file)))
    except (ReferenceDatabaseError, OSError) as error:
        fail(f"{file.name} not imported: {error}")
    return described


def _wire_description(cell_file: Path) -> Any:
    """A description as the API has it, out of a file that may have it so already."""
    import msgspec

    from reference_db.errors import BadFingerprintFile
    from reference_db.fingerprint_file import read_cell_file
    from service.updates.cell_wire import description_of

    try:
        described = json_format.loads(cell_file.read_bytes())
        if isinstance(described, dict) and "point" in described:
            return described
        cell = read_cell_file(cell_file)
    except (OSError, ValueError, BadFingerprintFile) as error:
        fail(f"{cell_file.name}: {error}")
    return msgspec.to_builtins(description_of(cell)) | {"cellId": cell.cell_id}
