"""``fingerpost keys``: API keys and what each one allows."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands.api_session import Target, send_request
from service.commands.cell_tables import print_response
from service.commands.options import fail, print_json, reject, require_finite
from service.commands.tables import id_column, make_table, number_column, print_table, text_column

if TYPE_CHECKING:
    from service.auth.keys import KeyRecord

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table or nothing.")]
KeysFile = Annotated[
    Path, typer.Option("--file", envvar="FINGERPOST_KEYS_FILE", help="File of the keys, which the service reads.")
]


def add(
    name: Annotated[str, typer.Argument(help="Owner or purpose of the key.")],
    file: KeysFile,
    scopes: Annotated[
        list[str],
        typer.Option("--scope", metavar="SCOPE", help="locate, operate or read. Repeat the option for more."),
    ],
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            callback=require_finite,
            help="Users and other requests a second, at most.",
            show_default="no limit",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Make an API key and print it. Save it now; it cannot be shown again.

    The file keeps only a hash of the key. Running services accept the key within seconds.
    """
    from service.auth.keys import InvalidKey, KeysUnreadable, edit_keys, make_key

    try:
        key, record = make_key(name, scopes, rate, datetime.now(UTC))
        with edit_keys(file) as keys:
            keys.append(record)
    except (InvalidKey, KeysUnreadable, OSError) as error:
        fail(f"the key was not made: {error}")
    if json:
        print_json(_describe(record) | {"key": key})
        return
    typer.echo(
        f"fingerpost: key {record.id} for {name}, scope {', '.join(scopes)}. Save it now; it cannot be shown again:",
        err=True,
    )
    typer.echo(key)


def list_keys(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Option("--file", envvar="FINGERPOST_KEYS_FILE", help="File of the keys.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            envvar="FINGERPOST_URL",
            help="URL of a running service, which knows when each key was last used. An API key is read from "
            "FINGERPOST_KEY.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """List the API keys of a file or of a running service: id, owner, scopes and rate limit.

    The keys themselves cannot be shown.
    """
    sources = {"--file": context.get_parameter_source("file"), "--url": context.get_parameter_source("url")}
    typed = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if len(typed) == 2:
        reject("give --file or --url, not both")
    if url is not None and (file is None or typed == ["--url"]):
        print_response(send_request(Target(url, None, None), "GET", "/keys"), _print_keys_of_service, json)
        return
    if file is None:
        reject("give --file, or --url of a running service")
    from service.auth.keys import KeysUnreadable, read_keys

    try:
        keys = read_keys(file)
    except KeysUnreadable as error:
        fail(str(error))
    described = [_describe(key) for key in keys]
    if json:
        print_json({"keys": described})
    else:
        _print_keys(described, with_uses=False)


def _print_keys_of_service(listed: dict[str, Any]) -> None:
    if not listed["required"]:
        typer.echo("this service needs no keys")
        return
    _print_keys(listed["keys"], with_uses=True)
    if since := listed.get("usesSince"):
        typer.echo(f"the replica that answered knows only the uses at itself, since {_describe_time(since)}")


def _print_keys(keys: list[dict[str, Any]], *, with_uses: bool) -> None:
    from rich.markup import escape

    columns = [id_column("id"), text_column("name"), id_column("scopes"), number_column("users\na second")]
    table = make_table(*columns, id_column("created"), *([id_column("last used")] if with_uses else []))
    for key in keys:
        rate = "no limit" if key.get("rate") is None else f"{key['rate']:g}"
        facts = [key["id"], escape(key["name"]), "\n".join(key["scopes"]), rate, _describe_time(key["createdAt"])]
        if with_uses:
            facts.append(_describe_time(key["lastUsed"]) if "lastUsed" in key else "not known")
        table.add_row(*facts)
    print_table(table)


def _describe_time(time: str) -> str:
    return f"{datetime.fromisoformat(time).astimezone(UTC):%Y-%m-%d %H:%M}Z"


def revoke(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of keys, from `fingerpost keys list`.")],
    file: KeysFile,
    json: Json = False,
) -> None:
    """Delete API keys. Running services refuse them within seconds."""
    from service.auth.keys import KeysUnreadable, edit_keys

    try:
        with edit_keys(file) as keys:
            if unknown := set(ids) - {key.id for key in keys}:
                fail(f"no key {', '.join(sorted(unknown))}")
            keys[:] = [key for key in keys if key.id not in ids]
    except (KeysUnreadable, OSError) as error:
        fail(f"no key was revoked: {error}")
    if json:
        print_json({"revoked": ids})


def _describe(key: "KeyRecord") -> dict[str, Any]:
    """What may be shown of a key: not its hash."""
    created = {"createdAt": f"{key.created_at:%Y-%m-%dT%H:%M:%SZ}"}
    return key.model_dump(mode="json", include={"id", "name", "scopes", "rate"}) | created
