"""``fingerpost cells``: the commands that change cells."""

import json as json_format
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands import cell_tables
from service.commands.api_session import Target, raise_for_problem, run_session, send_request
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
    cell_path,
    make_change,
    parse_duration,
    parse_numbers,
    parse_timestamp,
)
from service.commands.cell_tables import print_response
from service.commands.options import ArtifactOption, Database, fail
from service.commands.transfer import upload_file

if TYPE_CHECKING:
    import httpx


def import_cell(
    cell: CellName,
    file: FingerprintFile,
    cell_file: Annotated[
        Path | None, typer.Option(help="Description of the cell as JSON, if the file has none.")
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
    path, change = cell_path(cell), make_change(note, author, if_match, key, force)
    with TemporaryDirectory() as folder:
        described = file if cell_file is None else _add_description(file, cell_file, Path(folder))
        response = _upload(Target(url, database, artifact), "PUT", path, described, change)
    print_response(response, cell_tables.print_cell, json)


def create(
    cell: CellName,
    cell_file: Annotated[Path, typer.Option(help="Description of the cell as JSON.")],
    url: Url = None,
    database: Database = None,
    artifact: ArtifactOption = None,
    note: Note = "",
    author: Author = None,
    key: Key = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Create a cell without fingerprints."""
    path, change = cell_path(cell), make_change(note, author, None, key, force)
    change.headers["If-None-Match"] = "*"
    body = {"cell": _read_description(cell_file)}
    print_response(_send(Target(url, database, artifact), "PUT", path, body, change), cell_tables.print_cell, json)


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
    """Add the fingerprints of a file to a cell. A bad file changes nothing."""
    path, change = cell_path(cell, "fingerprints"), make_change(note, author, if_match, key, force)
    response = _upload(Target(url, database, artifact), "POST", path, file, change)
    print_response(response, cell_tables.print_cell, json)


def delete(
    cell: CellName,
    ids: Annotated[
        list[str] | None, typer.Option("--id", help="Id of a fingerprint. Repeat the option for more.")
    ] = None,
    area: Annotated[
        str | None,
        typer.Option(
            metavar="W,S,E,N", help="Fingerprints in this rectangle; metres east and north of the base station."
        ),
    ] = None,
    circle: Annotated[
        str | None, typer.Option(metavar="LAT,LON,RADIUS", help="Fingerprints within RADIUS metres of a place.")
    ] = None,
    before: Annotated[
        str | None, typer.Option(metavar="TIME", help="Fingerprints measured before this time (ISO 8601).")
    ] = None,
    unknown_time: Annotated[
        bool, typer.Option("--unknown-time", help="Fingerprints of unknown time; with --before, these as well.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Delete nothing; print the number of fingerprints.")
    ] = False,
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
    """Delete the fingerprints of a cell that meet all the given criteria."""
    path, change = cell_path(cell, "fingerprints", "delete"), make_change(note, author, if_match, key, force)
    selection = {
        "ids": ids or None,
        "area": area and parse_numbers(area, ("west", "south", "east", "north")),
        "circle": circle and parse_numbers(circle, ("lat", "lon", "radius")),
        "measuredBefore": before and parse_timestamp(before),
        "unknownTime": unknown_time or None,
    }
    body = {name: value for name, value in selection.items() if value is not None}
    if dry_run:
        change.params["dryRun"] = "true"
    response = _send(Target(url, database, artifact), "POST", path, body, change)
    print_response(response, cell_tables.print_preview if dry_run else cell_tables.print_cell, json)


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
    """Publish an older version of a cell again, as its newest version."""
    path, change = cell_path(cell, "rollback"), make_change(note, author, if_match, key, force)
    response = _send(Target(url, database, artifact), "POST", path, {"version": version}, change)
    print_response(response, cell_tables.print_cell, json)


def retention(
    cell: CellName,
    max_age: Annotated[
        str | None,
        typer.Option(
            metavar="AGE", help="Remove fingerprints this long after they were measured: 90d, 12h, 30m or 45s."
        ),
    ] = None,
    max_fingerprints: Annotated[
        int | None, typer.Option(min=1, help="Keep only this many fingerprints, the newest.")
    ] = None,
    min_spacing: Annotated[
        float | None,
        typer.Option(metavar="METRES", help="Of two fingerprints nearer to each other than this, keep only the newer."),
    ] = None,
    keep_all: Annotated[bool, typer.Option("--keep-all", help="Remove all limits.")] = False,
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
    """Limit the fingerprints that a cell keeps. The limits replace the old ones and apply at once and from then on."""
    path, change = cell_path(cell, "retention"), make_change(note, author, if_match, key, force)
    limits = {
        "maxAgeS": None if max_age is None else parse_duration(max_age),
        "maxFingerprints": max_fingerprints,
        "minSpacingM": min_spacing,
    }
    if keep_all == any(limit is not None for limit in limits.values()):
        fail("give either limits or --keep-all")
    print_response(_send(Target(url, database, artifact), "PUT", path, limits, change), cell_tables.print_cell, json)


def model(
    cell: CellName,
    policy: Annotated[ModelPolicy, typer.Argument(help="The model family; auto: any that can serve the cell.")],
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
    """Set which model family locates users in a cell."""
    path, change = cell_path(cell, "model"), make_change(note, author, if_match, key, force)
    response = _send(Target(url, database, artifact), "PUT", path, {"policy": policy.value}, change)
    print_response(response, cell_tables.print_cell, json)


def _upload(target: Target, method: str, path: str, file: Path, change: Change) -> "httpx.Response":
    if file.suffix not in {".safetensors", ".npz"}:
        fail(f"{file.name} is neither .safetensors nor .npz")

    async def upload(client: "httpx.AsyncClient") -> "httpx.Response":
        return raise_for_problem(await upload_file(client, method, path, file, *change))

    try:
        return run_session(target, upload)
    except OSError as error:
        fail(f"{file.name} cannot be read: {error.strerror or error}")


def _send(target: Target, method: str, path: str, body: dict[str, Any], change: Change) -> "httpx.Response":
    return send_request(target, method, path, params=change.params, headers=change.headers, json=body)


def _add_description(file: Path, cell_file: Path, folder: Path) -> Path:
    """Writes a file in `folder` with the fingerprints of `file` and the cell description of `cell_file`."""
    from reference_db.errors import ReferenceDatabaseError
    from reference_db.fingerprint_file import read_cell_file, read_fingerprint_file, write_fingerprint_file

    described = folder / f"{file.stem}.safetensors"
    try:
        write_fingerprint_file(described, *read_fingerprint_file(file, read_cell_file(cell_file)))
    except (ReferenceDatabaseError, OSError) as error:
        fail(f"{file.name} was not imported: {error}")
    return described


def _read_description(cell_file: Path) -> Any:
    """A cell's description in the API's form. The file has it in that form or in that of fingerprint files."""
    from reference_db.errors import BadFingerprintFile
    from reference_db.fingerprint_file import read_cell_file
    from reference_db.unique_names import refuse_repeated_names
    from service.updates.cell_wire import describe_cell

    try:
        description = json_format.loads(cell_file.read_bytes(), object_pairs_hook=refuse_repeated_names)
        if isinstance(description, dict) and "point" in description:
            return description
        cell = read_cell_file(cell_file)
    except (OSError, ValueError, BadFingerprintFile) as error:
        fail(f"{cell_file.name}: {error}")
    return describe_cell(cell).model_dump(mode="json") | {"cellId": cell.cell_id}
