"""``fingerpost cells``: the commands that read cells."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.commands import cell_tables
from service.commands.api_session import Target, raise_for_problem, run_session, send_request
from service.commands.cell_options import CellName, Json, Url, VersionName, cell_path
from service.commands.cell_tables import print_response
from service.commands.options import ArtifactOption, Database, fail, print_json, reject
from service.commands.transfer import download_file

if TYPE_CHECKING:
    import httpx

OptionalVersion = Annotated[str | None, typer.Option(help="A version or its number.", show_default="current version")]


def list_cells(url: Url = None, database: Database = None, artifact: ArtifactOption = None, json: Json = False) -> None:
    """List all cells."""
    print_response(send_request(Target(url, database, artifact), "GET", "/cells"), cell_tables.print_cells, json)


def show_cell(
    cell: CellName,
    version: OptionalVersion = None,
    url: Url = None,
    database: Database = None,
    artifact: ArtifactOption = None,
    json: Json = False,
) -> None:
    """Show a cell: its description, and the location error measured on its own fingerprints."""
    path = cell_path(cell) if version is None else cell_path(cell, "versions", version)
    print_response(send_request(Target(url, database, artifact), "GET", path), cell_tables.print_cell, json)


def list_versions(
    cell: CellName,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Number of versions, at most.")] = 50,
    before: Annotated[int | None, typer.Option(help="List only versions with a lower number than this.")] = None,
    url: Url = None,
    database: Database = None,
    artifact: ArtifactOption = None,
    json: Json = False,
) -> None:
    """List the versions of a cell, newest first, with author, time and reason."""
    params = {"limit": limit} | ({} if before is None else {"before": before})
    path = cell_path(cell, "versions")
    response = send_request(Target(url, database, artifact), "GET", path, params=params)
    print_response(response, cell_tables.print_versions, json)


def diff(
    cell: CellName,
    before: VersionName,
    after: Annotated[str | None, typer.Argument(help="Another version.", show_default="current version")] = None,
    url: Url = None,
    database: Database = None,
    artifact: ArtifactOption = None,
    json: Json = False,
) -> None:
    """Show the differences between two versions of a cell."""

    async def compare(client: "httpx.AsyncClient") -> "httpx.Response":
        other = after or raise_for_problem(await client.get(cell_path(cell))).json()["version"]
        return raise_for_problem(await client.get(cell_path(cell, "versions", before, "diff", other)))

    print_response(run_session(Target(url, database, artifact), compare), cell_tables.print_diff, json)


def list_fingerprints(
    cell: CellName,
    version: OptionalVersion = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Number of fingerprints, at most.")] = 1000,
    after: Annotated[str | None, typer.Option(metavar="ID", help="List only fingerprints after this one.")] = None,
    url: Url = None,
    database: Database = None,
    artifact: ArtifactOption = None,
    json: Json = False,
) -> None:
    """List the fingerprints of a cell: id, position, time of measurement."""
    given = {"limit": str(limit), "version": version, "after": after}
    params = {name: value for name, value in given.items() if value is not None}
    path = cell_path(cell, "fingerprints")
    response = send_request(Target(url, database, artifact), "GET", path, params=params)
    print_response(response, cell_tables.print_fingerprints, json)


def export(
    cell: CellName,
    file: Annotated[
        Path | None,
        typer.Argument(help="File to write: .safetensors or .npz.", show_default="CELL-VERSION.safetensors"),
    ] = None,
    version: OptionalVersion = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    url: Url = None,
    database: Database = None,
    artifact: ArtifactOption = None,
    json: Json = False,
) -> None:
    """Write the fingerprints of a cell to a file that `import` can read, and print the file's name."""
    suffix = ".safetensors" if file is None else file.suffix
    if suffix not in {".safetensors", ".npz"}:
        reject(f"{file} is neither .safetensors nor .npz")
    from fingerpost.downloads import read_exported_version

    params = {"format": suffix[1:]} | ({} if version is None else {"version": version})

    async def download(client: "httpx.AsyncClient") -> tuple[Path, str]:
        async with client.stream("GET", cell_path(cell, "export"), params=params) as response:
            if not response.is_success:
                await response.aread()
                raise_for_problem(response)
            exported = read_exported_version(response)
            chosen = file or Path(f"{cell}-{exported}{suffix}")
            _refuse_to_overwrite(chosen, force=force)
            await download_file(response, chosen)
            return chosen, exported

    if file is not None:
        _refuse_to_overwrite(file, force=force)
    try:
        written, exported = run_session(Target(url, database, artifact), download)
    except OSError as error:
        fail(f"the file cannot be written: {error}")
    if json:
        print_json({"file": str(written), "version": exported})
    else:
        typer.echo(written)


def _refuse_to_overwrite(file: Path, *, force: bool) -> None:
    if file.exists() and not force:
        fail(f"{file} is there already; --force overwrites it")
