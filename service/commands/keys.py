"""``fingerpost keys``: who may ask for what."""

from pathlib import Path
from typing import Annotated

import typer

from service.auth.keys import KeysUnreadable
from service.commands.options import console, fail

KeysFile = Annotated[
    Path, typer.Option("--file", envvar="FINGERPOST_KEYS_FILE", help="Where the keys lie, as the service reads them.")
]


def add(
    name: Annotated[str, typer.Argument(help="Whose key it is, or what for.")],
    file: KeysFile,
    scopes: Annotated[
        list[str], typer.Option("--scope", help="locate, operate or read; may be given often.", metavar="SCOPE")
    ],
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Users, and other requests, a second, at most; else any number.")
    ] = None,
) -> None:
    """Make a key and print it: this once, for only its hash is kept. Services that run take it within seconds."""
    from datetime import UTC, datetime

    from service.auth.keys import InvalidKey, edit_keys, make_key

    try:
        key, record = make_key(name, scopes, rate, datetime.now(UTC))
        with edit_keys(file) as keys:
            keys.append(record)
    except (InvalidKey, KeysUnreadable, OSError) as error:
        fail(f"no key made: {error}")
    typer.echo(f"fingerpost: key {record.id} of {name}, for {', '.join(scopes)}; it is not kept anywhere:", err=True)
    typer.echo(key)


def list_keys(file: KeysFile) -> None:
    """List the keys: whose they are and what for, not the keys themselves."""
    from rich.table import Table

    from service.auth.keys import read_keys

    try:
        keys = read_keys(file)
    except KeysUnreadable as error:
        fail(str(error))
    table = Table("id", "name", "scopes", "users a second", "created")
    for key in keys:
        rate = "any number" if key.rate is None else f"{key.rate:g}"
        table.add_row(key.id, key.name, " ".join(key.scopes), rate, f"{key.created_at:%Y-%m-%d %H:%M}Z")
    console().print(table)


def revoke(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="As `fingerpost keys list` shows them.")],
    file: KeysFile,
) -> None:
    """Take keys back. Services that run refuse them within seconds."""
    from service.auth.keys import edit_keys

    try:
        with edit_keys(file) as keys:
            if unknown := set(ids) - {key.id for key in keys}:
                fail(f"no key {', '.join(sorted(unknown))}")
            keys[:] = [key for key in keys if key.id not in ids]
    except (KeysUnreadable, OSError) as error:
        fail(f"nothing revoked: {error}")
