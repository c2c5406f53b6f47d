"""``fingerpost cells``: the commands that change cells."""

import json as json_format
from enum import StrEnum
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
)
from service.commands.cell_tables import print_response
from service.commands.options import ArtifactOption, Database, console, fail
from service.commands.transfer import upload_file

if TYPE_CHECKING:
    import httpx


class FingerprintsAtBaseStation(StrEnum):
    move = "move"
    stay = "stay"


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
    target = Target(url, database, artifact, creates=True)
    with TemporaryDirectory() as folder:
        described = file if cell_file is None else _add_description(file, cell_file, Path(folder))
        response = _upload(target, "PUT", path, described, change)
    _print_published(response, target, json)


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
    target = Target(url, database, artifact, creates=True)
    _print_published(_send(target, "PUT", path, body, change), target, json)


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
    target = Target(url, database, artifact)
    _print_published(_upload(target, "POST", path, file, change), target, json)


def correct(
    cell: CellName,
    point: Annotated[
        str | None, typer.Option(metavar="LAT,LON", help="Place of the base station. Needs --fingerprints.")
    ] = None,
    fingerprints: Annotated[
        FingerprintsAtBaseStation | None,
        typer.Option(
            help="move: fingerprints keep their metres from the base station. stay: they stay where they are on Earth."
        ),
    ] = None,
    height: Annotated[float | None, typer.Option(help="Metres above the ground.")] = None,
    yaw: Annotated[
        float | None,
        typer.Option(metavar="DEGREES", help="Direction of the array's broadside, counter-clockwise from east."),
    ] = None,
    rows: Annotated[int | None, typer.Option(help="Rows of the array. The number of antennas cannot change.")] = None,
    columns: Annotated[int | None, typer.Option(help="Columns of the array.")] = None,
    spacing: Annotated[float | None, typer.Option(metavar="WAVELENGTHS", help="Distance of antennas.")] = None,
    polarisations: Annotated[int | None, typer.Option(metavar="1|2", help="Polarisations of the array.")] = None,
    carrier: Annotated[float | None, typer.Option(metavar="HERTZ", help="Carrier frequency.")] = None,
    bandwidth: Annotated[float | None, typer.Option(metavar="HERTZ", help="Bandwidth.")] = None,
    area: Annotated[
        str | None, typer.Option(metavar="W,S,E,N", help="Area outside which no fingerprint may lie, metres.")
    ] = None,
    survey_sto: Annotated[
        float | None,
        typer.Option(metavar="NANOSECONDS", help="1-sigma sampling-time offset of the fingerprints' radios."),
    ] = None,
    user_sto: Annotated[
        float | None, typer.Option(metavar="NANOSECONDS", help="1-sigma sampling-time offset of the users' radios.")
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
    """Correct the description of a cell without sending its fingerprints again."""
    path, change = cell_path(cell), make_change(note, author, if_match, key, force)
    array = {"rows": rows, "columns": columns, "spacing": spacing, "polarisations": polarisations}
    fields = {
        "point": point and parse_numbers(point, ("lat", "lon")),
        "fingerprints": fingerprints and fingerprints.value,
        "height": height,
        "yawDeg": yaw,
        "array": {name: value for name, value in array.items() if value is not None} or None,
        "carrierFrequency": carrier,
        "bandwidth": bandwidth,
        "area": area and parse_numbers(area, ("west", "south", "east", "north")),
        "surveyStoNs": survey_sto,
        "userStoNs": user_sto,
    }
    body = {name: value for name, value in fields.items() if value is not None}
    target = Target(url, database, artifact)
    _print_published(_send(target, "PATCH", path, body, change), target, json)


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
    target = Target(url, database, artifact)
    _print_published(_send(target, "POST", path, {"version": version}, change), target, json)


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
    target = Target(url, database, artifact)
    _print_published(_send(target, "PUT", path, limits, change), target, json)


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
    target = Target(url, database, artifact)
    _print_published(_send(target, "PUT", path, {"policy": policy.value}, change), target, json)


def _print_published(response: "httpx.Response", target: Target, json: bool) -> None:
    print_response(response, cell_tables.print_cell, json)
    if not json:
        console().print(f"published at {target.place}", markup=False, highlight=False, soft_wrap=True)


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
