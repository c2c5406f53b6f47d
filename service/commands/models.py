"""``fingerpost models``: the models of a service and which of them locate users."""

import asyncio
import time
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from service.commands.api_session import Target, raise_for_problem, run_session, send_request
from service.commands.cell_options import Json, read_duration
from service.commands.cell_tables import print_response
from service.commands.options import console, fail
from service.commands.tables import id_column, make_table, number_column, print_table, text_column

if TYPE_CHECKING:
    import httpx

Url = Annotated[
    str, typer.Option(envvar="FINGERPOST_URL", help="URL of the service: of a load balancer, or of any replica.")
]
Wait = Annotated[
    str,
    typer.Option(
        metavar="DURATION",
        help="How long to wait until all replicas serve the model, such as 90s; 0: do not wait.",
    ),
]
_DEFAULT_URL = "http://127.0.0.1:8080"
_ASKED_EVERY_S = 0.5


def list_models(url: Url = _DEFAULT_URL, json: Json = False) -> None:
    """List the models that the service can load, which are active, and what each replica serves."""
    print_response(send_request(Target(url, None, None), "GET", "/models"), print_models, json)


def activate(
    folder: Annotated[str, typer.Argument(help="Folder of the model's artifact, from `fingerpost models list`.")],
    force: Annotated[
        bool,
        typer.Option("--force", help="Activate even if users are located much worse, or no cell can be checked."),
    ] = False,
    wait: Wait = "2m",
    url: Url = _DEFAULT_URL,
    json: Json = False,
) -> None:
    """Locate users with another model from now on, on all replicas, without a restart.

    Compares the model with the active one in some cells first. Fails if a replica does not serve it in time.
    """
    path, patience = f"/models/{quote(folder, safe='')}:activate", read_duration(wait, "--wait")

    async def activate_and_wait(client: "httpx.AsyncClient") -> "tuple[httpx.Response, Any]":
        response = raise_for_problem(await client.post(path, params={"force": force}))
        check = response.json().get("check")
        deadline = time.monotonic() + patience
        while _find_lagging(response.json()) and time.monotonic() < deadline:
            await asyncio.sleep(_ASKED_EVERY_S)
            response = raise_for_problem(await client.get("/models"))
        return response, check

    response, check = run_session(Target(url, None, None), activate_and_wait)
    print_response(response, print_models, json)
    if not json:
        _print_check(check)
    if patience and (lagging := _find_lagging(response.json())):
        fail("these replicas do not serve the model yet:\n" + "\n".join(f"  {line}" for line in lagging))


def _find_lagging(listed: dict[str, Any]) -> list[str]:
    """The replicas that serve another model of a family than the activated one, and why."""
    activated = listed.get("activated", {})  # absent from a service of version 0.1
    return [
        f"{replica['name']}: {replica.get('problem', 'still prepares it')}"
        for replica in listed.get("replicas", [])
        if any(activated.get(family, digest) != digest for family, digest in replica["artifacts"].items())
    ]


def _print_check(check: dict[str, Any] | None) -> None:
    if check is None:
        console().print("the model served already; no cell was checked")
        return
    console().print(f"{check['checked']} of {check['cells']} cells checked, {len(check['failed'])} failed")
    compared = make_table(id_column("cell"), number_column("median error\nbefore, m"), number_column("after, m"))
    for one in check.get("compared", []):  # absent from an earlier service
        medians = (one.get(name) for name in ("medianBefore", "medianAfter"))
        compared.add_row(one["cellId"], *("no answer" if median is None else f"{median:.2f}" for median in medians))
    if compared.row_count:
        print_table(compared)
    for one in check["failed"]:
        console().print(f"  {one['cellId']}: {one['reason']}", markup=False, soft_wrap=True)


def print_models(listed: dict[str, Any]) -> None:
    from rich.markup import escape

    columns = (id_column("folder"), id_column("state"), text_column("model"), "after\nrestart", id_column("digest"))
    table = make_table(*columns)
    activated = listed.get("activated", {})
    for model in listed["models"]:
        name = " ".join(model[fact] for fact in ("family", "name", "version"))
        facts = (model["folder"], model["state"], escape("\n".join([name, *_describe_radios(model)])))
        stays = model["digest"] == activated[model["family"]] if model["family"] in activated else model["configured"]
        table.add_row(*facts, "yes" if stays else "", model["digest"][:12])
    for one in listed["unusable"]:
        table.add_row(escape(one["folder"]), "[red]unusable[/red]", escape(one["reason"]))
    print_table(table)
    replicas = make_table(id_column("replica"), id_column("serves"), text_column("problem"))
    for replica in listed.get("replicas", []):
        serves = "\n".join(f"{family} {digest[:12]}" for family, digest in replica["artifacts"].items())
        replicas.add_row(escape(replica["name"]), serves, escape(_describe_trouble(replica)))
    print_table(replicas)


def _describe_radios(model: dict[str, Any]) -> list[str]:
    """The radios of a model that serves ranges of them."""
    csi = model["csi"]
    if not isinstance(csi["antennas"], dict):
        return []
    ranges = (
        ("antennas", 1, " antennas"),
        ("subcarriers", 1, " subcarriers"),
        ("bandwidth", 1e6, " MHz"),
        ("carrierFrequency", 1e9, " GHz"),
    )
    return [", ".join(_describe_range(csi[name], one) + unit for name, one, unit in ranges)]


def _describe_range(ends: dict[str, float], one: float) -> str:
    return " to ".join(dict.fromkeys(f"{ends[end] / one:g}" for end in ("minimum", "maximum")))


def _describe_trouble(replica: dict[str, Any]) -> str:
    unseen = f"not seen by other replicas: {replica['unreported']}" if "unreported" in replica else None
    return "; ".join(filter(None, (replica.get("problem"), unseen)))
