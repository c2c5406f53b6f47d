"""``fingerpost cells import-all``: many cells from one manifest."""

import json as json_format
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands.api_session import ProblemReceived, Target, raise_for_problem, run_session
from service.commands.cell_options import Author, Change, Force, Json, Note, Url, cell_path, make_change
from service.commands.layout_options import BadUpload, convert
from service.commands.options import ArtifactOption, Database, fail
from service.commands.transfer import upload_file

if TYPE_CHECKING:
    import httpx

    from service.commands.import_manifest import PlannedCell


def import_all(
    manifest: Annotated[
        Path,
        typer.Argument(
            help="List of cells: .yaml, .json or .csv. Each has file, cell_file or both, perhaps its name as cell, and "
            "the options of import: axes, conjugate, subcarrier_order, units, fields. Paths are relative to the list."
        ),
    ],
    check_only: Annotated[bool, typer.Option("--check-only", help="Check all cells, write nothing.")] = False,
    url: Url = None,
    database: Database = None,
    artifact: ArtifactOption = None,
    note: Note = "",
    author: Author = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Create or replace all cells of a manifest. All of them are checked before anything is written.

    Prints a line for each fault and for each warning.
    """
    from service.commands.import_manifest import BadManifest, read_manifest

    change = make_change(note, author, None, None, force)
    try:
        planned = read_manifest(manifest)
    except BadManifest as error:
        fail("\n".join([*error.faults, "nothing was written"]))

    async def run(client: "httpx.AsyncClient") -> list[dict[str, Any]]:
        reports = [await _check(client, cell, change) for cell in planned]
        refused = sum(not report["wouldPublish"] for report in reports)
        if refused:
            fail(f"{refused} of {len(planned)} cells would be refused; nothing was written")
        if check_only:
            return reports
        return [await _publish(client, cell, change, done) for done, cell in enumerate(planned)]

    answers = run_session(Target(url, database, artifact, creates=True), run)
    if json:
        typer.echo(json_format.dumps(answers, indent=2, ensure_ascii=False))
    else:
        typer.echo(f"{len(answers)} cells {'would be published' if check_only else 'published'}")


async def _check(client: "httpx.AsyncClient", cell: "PlannedCell", change: Change) -> dict[str, Any]:
    """The report about a cell. Prints what was found, a line each, on standard error."""
    try:
        report: dict[str, Any] = (await _put(client, cell, change.params | {"dryRun": "true"}, tell=True)).json()
    except (BadUpload, ProblemReceived) as error:
        _say(cell.cell_id, "fault", str(error).replace("\n  ", "; "))
        return {"cellId": cell.cell_id, "wouldPublish": False}
    for finding in report["findings"]:
        _say(cell.cell_id, finding["severity"], f"{finding['what']}; {finding['advice']}")
    return report


async def _publish(client: "httpx.AsyncClient", cell: "PlannedCell", change: Change, done: int) -> dict[str, Any]:
    try:
        published: dict[str, Any] = (await _put(client, cell, change.params, tell=False)).json()
    except (BadUpload, ProblemReceived) as error:
        fail(f"cell {cell.cell_id}: {error}\n{done} cells before it were published")
    return published


async def _put(
    client: "httpx.AsyncClient", cell: "PlannedCell", params: dict[str, str], *, tell: bool
) -> "httpx.Response":
    """Raises `BadUpload` or `ProblemReceived`."""
    path = cell_path(cell.cell_id)
    if cell.file is None:
        from reference_db.cell_description import write_description

        assert cell.described is not None
        body = {"cell": json_format.loads(write_description(cell.described))}
        return raise_for_problem(await client.put(path, params=params, json=body))
    with TemporaryDirectory() as folder:
        upload = convert(cell.file, cell.layout, cell.described, Path(folder), tell=tell)
        try:
            return raise_for_problem(await upload_file(client, "PUT", path, upload, params, {}))
        except OSError as error:
            raise BadUpload(f"{cell.file.name} cannot be read: {error.strerror or error}") from error


def _say(cell_id: str, severity: str, what: str) -> None:
    colour = typer.colors.RED if severity == "fault" else typer.colors.YELLOW
    typer.secho(f"fingerpost: cell {cell_id}: {severity}: {what}", fg=colour, err=True)
