"""``fingerpost cells``: what there is."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands import cell_tables
from service.commands.api_session import Where, good, talk
from service.commands.cell_options import CellName, Json, Url, VersionName, path_of
from service.commands.cell_tables import show
from service.commands.options import ArtifactOption, Database, fail
from service.commands.transfer import save_file

if TYPE_CHECKING:
    import httpx

SomeVersion = Annotated[str | None, typer.Option(help="A version or its number; else the current one.")]


def list_cells(url: Url = None, database: Database = None, artifact: ArtifactOption = None, json: Json = False) -> None:
    """List the cells."""
    show(_ask(Where(url, database, artifact), "/cells"), cell_tables.print_cells, json)


def show_cell(
    cell: CellName,
    version: SomeVersion = None,
    url: Url = None,
    database: Database = None,
    artifact: ArtifactOption = None,
    json: Json = False,
) -> None:
    """Show a cell: what it is, and how well users are located in it."""
    path = path_of(cell) if version is None else path_of(cell, "versions", version)
    show(_ask(Where(url, database, artifact), path), cell_tables.print_cell, json)


def list_versions(
    cell: CellName,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, at most.")] = 50,
    before: Annotated[int | None, typer.Option(help="Only those of lower number.")] = None,
    url: Url = None,
    database: Database = None,
    artifact: ArtifactOption = None,
    json: Json = False,
) -> None:
    """List a cell's versions, newest first: who made them, when and why."""
    params = {"limit": limit} | ({} if before is None else {"before": before})
    answer = _ask(Where(url, database, artifact), path_of(cell, "versions"), params)
    show(answer, cell_tables.print_versions, json)


def diff(
    cell: CellName,
    before: VersionName,
    after: Annotated[str | None, typer.Argument(help="Another version; else the current one.")] = None,
    url: Url = None,
    database: Database = None,
    artifact: ArtifactOption = None,
    json: Json = False,
) -> None:
    """Show what lies between two versions of a cell."""

    async def ask(client: "httpx.AsyncClient") -> "httpx.Response":
        other = after or good(await client.get(path_of(cell))).json()["version"]
        return good(await client.get(path_of(cell, "versions", before, "diff", other)))

    show(talk(Where(url, database, artifact), ask), cell_tables.print_diff, json)


def list_fingerprints(
    cell: CellName,
    version: SomeVersion = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many, at most.")] = 1000,
    after: Annotated[str | None, typer.Option(metavar="ID", help="Only those after this one.")] = None,
    url: Url = None,
    database: Database = None,
    artifact: ArtifactOption = None,
    json: Json = False,
) -> None:
    """List a cell's fingerprints: ids, and where and when they were measured."""
    given = {"limit": str(limit), "version": version, "after": after}
    params = {name: value for name, value in given.items() if value is not None}
    answer = _ask(Where(url, database, artifact), path_of(cell, "fingerprints"), params)
    show(answer, cell_tables.print_fingerprints, json)


def export(
    cell: CellName,
    file: Annotated[
        Path | None, typer.Argument(help="Where to: .safetensors or .npz; else CELL-VERSION.safetensors, here.")
    ] = None,
    version: SomeVersion = None,
    url: Url = None,
    database: Database = None,
    artifact: ArtifactOption = None,
) -> None:
    """Write a cell's fingerprints to a file that can be imported again."""
    suffix = ".safetensors" if file is None else file.suffix
    if suffix not in {".safetensors", ".npz"}:
        fail(f"{file}: neither .safetensors nor .npz")
    params = {"format": suffix[1:]} | ({} if version is None else {"version": version})

    async def fetch(client: "httpx.AsyncClient") -> Path:
        async with client.stream("GET", path_of(cell, "export"), params=params) as response:
            if not response.is_success:
                await response.aread()
            name = re.sub(r"[^a-z0-9-]", "", good(response).headers.get("etag", ""))
            chosen = file or Path(f"{cell}-{name}{suffix}")
            await save_file(response, chosen)
            return chosen

    try:
        typer.echo(talk(Where(url, database, artifact), fetch))
    except OSError as error:
        fail(f"not exported: {error}")


def _ask(where: Where, path: str, params: dict[str, Any] | None = None) -> "httpx.Response":
    async def ask(client: "httpx.AsyncClient") -> "httpx.Response":
        return good(await client.get(path, params=params))

    return talk(where, ask)
