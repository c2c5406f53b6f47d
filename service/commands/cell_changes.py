"""``fingerpost cells``: the commands that change cells."""

from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands import cell_tables, layout_options
from service.commands.api_session import Target, raise_for_problem, run_session, send_request
from service.commands.cell_options import (
    Author,
    CellFile,
    CellName,
    Change,
    Force,
    IfMatch,
    Json,
    Key,
    ModelPolicy,
    Note,
    SurveyFile,
    Url,
    VersionName,
    cell_path,
    make_change,
    parse_numbers,
    read_duration,
)
from service.commands.cell_tables import print_response
from service.commands.options import ArtifactOption, Database, console, fail, reject, require_finite
from service.commands.transfer import upload_file

if TYPE_CHECKING:
    import httpx


class FingerprintsAtBaseStation(StrEnum):
    move = "move"
    stay = "stay"


def import_cell(
    cell: CellName,
    file: SurveyFile,
    cell_file: CellFile = None,
    axes: layout_options.AxesOption = None,
    conjugate: layout_options.ConjugateOption = False,
    subcarrier_order: layout_options.SubcarrierOrderOption = layout_options.SubcarrierOrder.ascending,
    units: layout_options.UnitsOption = layout_options.Units.m,
    field: layout_options.FieldOption = None,
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
    layout = layout_options.make_layout(axes, conjugate, subcarrier_order, units, field)
    target = Target(url, database, artifact, creates=True)
    with TemporaryDirectory() as folder:
        described = None if cell_file is None else layout_options.read_description(cell_file, cell)
        upload = layout_options.make_upload(file, layout, described, Path(folder))
        response = _upload(target, "PUT", path, upload, change)
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
    from service.updates.cell_wire import describe_cell

    described = describe_cell(layout_options.read_description(cell_file, cell))
    body = {"cell": described.model_dump(mode="json", exclude_none=True)}
    target = Target(url, database, artifact, creates=True)
    _print_published(_send(target, "PUT", path, body, change), target, json)


def append(
    cell: CellName,
    file: SurveyFile,
    cell_file: CellFile = None,
    axes: layout_options.AxesOption = None,
    conjugate: layout_options.ConjugateOption = False,
    subcarrier_order: layout_options.SubcarrierOrderOption = layout_options.SubcarrierOrder.ascending,
    units: layout_options.UnitsOption = layout_options.Units.m,
    field: layout_options.FieldOption = None,
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
    layout = layout_options.make_layout(axes, conjugate, subcarrier_order, units, field)
    target = Target(url, database, artifact)
    with TemporaryDirectory() as folder:
        described = None if cell_file is None else layout_options.read_description(cell_file, cell)
        upload = layout_options.make_upload(file, layout, described, Path(folder))
        response = _upload(target, "POST", path, upload, change)
    _print_published(response, target, json)


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
    height: Annotated[
        float | None, typer.Option(min=0, max=1e5, callback=require_finite, help="Metres above the ground.")
    ] = None,
    azimuth: Annotated[
        float | None,
        typer.Option(
            metavar="DEGREES",
            callback=require_finite,
            help="Compass azimuth of the array's broadside, clockwise from north: 90 is east.",
        ),
    ] = None,
    rows: Annotated[int | None, typer.Option(help="Rows of the array. The number of antennas cannot change.")] = None,
    columns: Annotated[int | None, typer.Option(help="Columns of the array.")] = None,
    spacing: Annotated[
        float | None, typer.Option(metavar="WAVELENGTHS", callback=require_finite, help="Distance of antennas.")
    ] = None,
    polarisations: Annotated[int | None, typer.Option(metavar="1|2", help="Polarisations of the array.")] = None,
    carrier: Annotated[
        float | None, typer.Option(metavar="HERTZ", callback=require_finite, help="Carrier frequency.")
    ] = None,
    bandwidth: Annotated[
        float | None, typer.Option(metavar="HERTZ", callback=require_finite, help="Bandwidth.")
    ] = None,
    area: Annotated[
        str | None, typer.Option(metavar="W,S,E,N", help="Area outside which no fingerprint may lie, metres.")
    ] = None,
    survey_sto: Annotated[
        float | None,
        typer.Option(
            metavar="NANOSECONDS",
            callback=require_finite,
            help="1-sigma sampling-time offset of the fingerprints' radios.",
        ),
    ] = None,
    user_sto: Annotated[
        float | None,
        typer.Option(
            metavar="NANOSECONDS", callback=require_finite, help="1-sigma sampling-time offset of the users' radios."
        ),
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
        "azimuthDeg": azimuth,
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
            metavar="DURATION", help="Remove fingerprints this long after they were measured, such as 90d or 12h."
        ),
    ] = None,
    max_fingerprints: Annotated[
        int | None, typer.Option(min=1, help="Keep only this many fingerprints, the newest.")
    ] = None,
    min_spacing: Annotated[
        float | None,
        typer.Option(
            metavar="METRES",
            callback=require_finite,
            help="Of two fingerprints nearer to each other than this, keep only the newer.",
        ),
    ] = None,
    keep_all: Annotated[bool, typer.Option("--keep-all", help="Remove all limits.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Set nothing; print how many fingerprints would be removed, and why.")
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
    """Limit the fingerprints that a cell keeps. The limits replace the old ones and apply at once and from then on."""
    path, change = cell_path(cell, "retention"), make_change(note, author, if_match, key, force)
    limits = {
        "maxAgeS": None if max_age is None else read_duration(max_age, "--max-age", needs_unit=True),
        "maxFingerprints": max_fingerprints,
        "minSpacingM": min_spacing,
    }
    if keep_all == any(limit is not None for limit in limits.values()):
        reject("give either limits or --keep-all")
    target = Target(url, database, artifact)
    if dry_run:
        change.params["dryRun"] = "true"
        print_response(_send(target, "PUT", path, limits, change), cell_tables.print_retention_preview, json)
        return
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
    async def upload(client: "httpx.AsyncClient") -> "httpx.Response":
        return raise_for_problem(await upload_file(client, method, path, file, *change))

    try:
        return run_session(target, upload)
    except OSError as error:
        fail(f"{file.name} cannot be read: {error.strerror or error}")


def _send(target: Target, method: str, path: str, body: dict[str, Any], change: Change) -> "httpx.Response":
    return send_request(target, method, path, params=change.params, headers=change.headers, json=body)
