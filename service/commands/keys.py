"""``fingerpost keys``: API keys and what each one allows."""

from pathlib import Path
from typing import Annotated

import typer

from service.commands.options import fail
from service.commands.tables import id_column, make_table, print_table, text_column

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
        typer.Option(min=0.001, help="Users and other requests a second, at most.", show_default="no limit"),
    ] = None,
) -> None:
    """Make an API key and print it. Save it now; it cannot be shown again.

    The file keeps only a hash of the key. Running services accept the key within seconds.
    """
    from datetime import UTC, datetime

    from service.auth.keys import InvalidKey, KeysUnreadable, edit_keys, make_key

    try:
        key, record = make_key(name, scopes, rate, datetime.now(UTC))
        with edit_keys(file) as keys:
            keys.append(record)
    except (InvalidKey, KeysUnreadable, OSError) as error:
        fail(f"the key was not made: {error}")
    typer.echo(
        f"fingerpost: key {record.id} for {name}, scope {', '.join(scopes)}. Save it now; it cannot be shown again:",
        err=True,
    )
    typer.echo(key)


def list_keys(file: KeysFile) -> None:
    """List the API keys: id, owner, scopes and rate limit. The keys themselves cannot be shown."""
    from rich.markup import escape

    from service.auth.keys import KeysUnreadable, read_keys

    try:
        keys = read_keys(file)
    except KeysUnreadable as error:
        fail(str(error))
    columns = (id_column("id"), text_column("name"), "scopes", "users a second", id_column("created"))
    table = make_table(*columns)
    for key in keys:
        rate = "no limit" if key.rate is None else f"{key.rate:g}"
        table.add_row(key.id, escape(key.name), " ".join(key.scopes), rate, f"{key.created_at:%Y-%m-%d %H:%M}Z")
    print_table(table)


def revoke(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of keys, from `fingerpost keys list`.")],
    file: KeysFile,
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
