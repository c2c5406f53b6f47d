"""``fingerpost cells``: the commands that remove fingerprints, versions and cells."""

from typing import Annotated, Any

import typer

from service.commands import cell_tables
from service.commands.api_session import Target, send_request
from service.commands.cell_options import (
    Author,
    CellName,
    Force,
    IfMatch,
    Json,
    Key,
    Note,
    Url,
    cell_path,
    make_change,
    parse_numbers,
    parse_timestamp,
)
from service.commands.cell_tables import print_response
from service.commands.completion import complete_cells
from service.commands.options import ArtifactOption, Database, reject

Ids = Annotated[list[str] | None, typer.Option("--id", help="Id of a fingerprint. Repeat the option for more.")]
InArea = Annotated[
    str | None,
    typer.Option(metavar="W,S,E,N", help="Fingerprints in this rectangle; metres east and north of the base station."),
]
InCircle = Annotated[
    str | None, typer.Option(metavar="LAT,LON,RADIUS", help="Fingerprints within RADIUS metres of a place.")
]
MeasuredBefore = Annotated[
    str | None, typer.Option(metavar="TIME", help="Fingerprints measured before this time (ISO 8601).")
]
UnknownTime = Annotated[
    bool, typer.Option("--unknown-time", help="Fingerprints of unknown time; with --before, these as well.")
]

_CRITERIA = "at least one of --id, --area, --circle, --before and --unknown-time"


def delete(
    cell: CellName,
    ids: Ids = None,
    area: InArea = None,
    circle: InCircle = None,
    before: MeasuredBefore = None,
    unknown_time: UnknownTime = False,
    whole_cell: Annotated[
        bool,
        typer.Option(
            "--whole-cell",
            help="Delete the cell with all its versions, for good. Needs --if-match VERSION or --force.",
        ),
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
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Publish even if the model locates users much worse, or cannot serve the cell. With --whole-cell: "
            "delete the cell at any current version.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Delete the fingerprints of a cell that meet all the given criteria, or the whole cell."""
    target, change = Target(url, database, artifact), make_change(note, author, if_match, key, force)
    body = _selection(ids, area, circle, before, unknown_time)
    if not (body or whole_cell):
        reject(f"give {_CRITERIA}, or --whole-cell")
    if whole_cell:
        if body or dry_run:
            reject("--whole-cell goes with no criterion and not with --dry-run")
        response = send_request(target, "DELETE", cell_path(cell), params=change.params, headers=change.headers)
        print_response(response, cell_tables.print_removal, json)
        return
    if dry_run:
        change.params["dryRun"] = "true"
    response = send_request(
        target,
        "POST",
        cell_path(cell, "fingerprints", "delete"),
        params=change.params,
        headers=change.headers,
        json=body,
    )
    print_response(response, cell_tables.print_preview if dry_run else cell_tables.print_cell, json)


def forget(
    cell: CellName,
    ids: Ids = None,
    area: InArea = None,
    circle: InCircle = None,
    before: MeasuredBefore = None,
    unknown_time: UnknownTime = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Forget nothing; print what would be forgotten.")] = False,
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
    """Remove the fingerprints that meet all the given criteria from every version of a cell, for good."""
    path, change = cell_path(cell, "fingerprints", "forget"), make_change(note, author, if_match, key, force)
    if dry_run:
        change.params["dryRun"] = "true"
    body = _selection(ids, area, circle, before, unknown_time)
    if not body:
        reject(f"give {_CRITERIA}")
    response = send_request(
        Target(url, database, artifact), "POST", path, params=change.params, headers=change.headers, json=body
    )
    print_table = cell_tables.print_forgetting_preview if dry_run else cell_tables.print_forgotten
    print_response(response, print_table, json)


def collect(
    cell: Annotated[
        str | None,
        typer.Argument(help="Only versions of this cell.", show_default="all cells", autocompletion=complete_cells),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing; print what would be removed.")] = False,
    url: Url = None,
    database: Database = None,
    artifact: ArtifactOption = None,
    json: Json = False,
) -> None:
    """Remove the old versions that FINGERPOST_HISTORY_VERSIONS and FINGERPOST_HISTORY_MAX_AGE_S no longer keep."""
    params = {"dryRun": str(dry_run).lower()} | ({} if cell is None else {"cell": cell})
    response = send_request(Target(url, database, artifact), "POST", "/versions/collect", params=params)
    print_response(response, cell_tables.print_collected, json)


def _selection(
    ids: list[str] | None, area: str | None, circle: str | None, before: str | None, unknown_time: bool
) -> dict[str, Any]:
    """The criteria given, as the API takes them."""
    selection = {
        "ids": ids or None,
        "area": area and parse_numbers(area, ("west", "south", "east", "north")),
        "circle": circle and parse_numbers(circle, ("lat", "lon", "radius")),
        "measuredBefore": before and parse_timestamp(before),
        "unknownTime": unknown_time or None,
    }
    return {name: value for name, value in selection.items() if value is not None}
