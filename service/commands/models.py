"""``fingerpost models``: which artifacts there are, and which locates users."""

from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from service.commands.api_session import Where, good, talk
from service.commands.cell_options import Json
from service.commands.cell_tables import show, whole
from service.commands.options import console

if TYPE_CHECKING:
    import httpx

Url = Annotated[str, typer.Option(help="Where the service answers: one replica, not what stands before several.")]
_HERE = "http://127.0.0.1:8080"


def list_models(url: Url = _HERE, json: Json = False) -> None:
    """List the artifacts that locate users, and those that could."""

    async def listed(client: "httpx.AsyncClient") -> "httpx.Response":
        return good(await client.get("/models"))

    show(talk(Where(url, None, None), listed), _print_models, json)


def activate(
    folder: Annotated[str, typer.Argument(help="The artifact's folder, as `list` has it.")],
    force: Annotated[bool, typer.Option(help="Even if users would be located far worse.")] = False,
    url: Url = _HERE,
    json: Json = False,
) -> None:
    """Have another artifact locate users, without a restart."""
    path, params = f"/models/{quote(folder, safe='')}:activate", {"force": force}

    async def activated(client: "httpx.AsyncClient") -> "httpx.Response":
        return good(await client.post(path, params=params))

    show(talk(Where(url, None, None), activated), _print_models, json)


def _print_models(listed: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(whole("folder"), "family", "name", "version", "state", "after a restart", "digest")
    for model in listed["models"]:
        facts = (model[fact] for fact in ("folder", "family", "name", "version", "state"))
        table.add_row(*map(escape, facts), "yes" if model["configured"] else "", model["digest"][:12])
    for one in listed["unusable"]:
        table.add_row(escape(one["folder"]), "", "", "", "[red]unusable[/red]", "", escape(one["reason"]))
    console().print(table)
