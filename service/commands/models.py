"""``fingerpost models``: the models of a service and which of them locate users."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from service.commands.api_session import Target, send_request
from service.commands.cell_options import Json
from service.commands.cell_tables import print_response
from service.commands.tables import id_column, make_table, print_table, text_column

Url = Annotated[str, typer.Option(help="URL of one replica of the service. Do not give the URL of a load balancer.")]
_DEFAULT_URL = "http://127.0.0.1:8080"


def list_models(url: Url = _DEFAULT_URL, json: Json = False) -> None:
    """List the models that the service can load, and which are active."""
    print_response(send_request(Target(url, None, None), "GET", "/models"), print_models, json)


def activate(
    folder: Annotated[str, typer.Argument(help="Folder of the model's artifact, from `fingerpost models list`.")],
    force: Annotated[bool, typer.Option("--force", help="Activate even if it locates users much worse.")] = False,
    url: Url = _DEFAULT_URL,
    json: Json = False,
) -> None:
    """Locate users with another model from now on, without a restart."""
    path = f"/models/{quote(folder, safe='')}:activate"
    response = send_request(Target(url, None, None), "POST", path, params={"force": force})
    print_response(response, print_models, json)


def print_models(listed: dict[str, Any]) -> None:
    from rich.markup import escape

    columns = (id_column("folder"), id_column("state"), text_column("model"), "after\nrestart", id_column("digest"))
    table = make_table(*columns)
    for model in listed["models"]:
        name = " ".join(model[fact] for fact in ("family", "name", "version"))
        facts = (model["folder"], model["state"], escape(name))
        table.add_row(*facts, "yes" if model["configured"] else "", model["digest"][:12])
    for one in listed["unusable"]:
        table.add_row(escape(one["folder"]), "[red]unusable[/red]", escape(one["reason"]))
    print_table(table)
