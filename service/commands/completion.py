"""Completes the names of cells for the Tab key. Whatever fails, a shell that completes shows no error."""

import os
from typing import Any

import typer

_TIMEOUT_S = 2


def complete_cells(context: typer.Context, incomplete: str) -> list[str]:
    """The cells of the service or of the database that the command line, or else the environment, names."""
    url, database = context.params.get("url"), context.params.get("database")
    try:
        names = _ask_service(url) if url and not database else _read_database(database)
    except Exception:
        return []
    return sorted(name for name in names if name.startswith(incomplete))


def _ask_service(url: str) -> list[str]:
    import httpx

    from fingerpost.client import authorization_headers

    headers = authorization_headers(os.environ.get("FINGERPOST_KEY") or None)
    listed = httpx.get(f"{url.rstrip('/')}/cells", headers=headers, timeout=_TIMEOUT_S).raise_for_status().json()
    names: list[str] = [cell["cellId"] for cell in listed["cells"]]
    return names + list(listed.get("unreadable", []))


def _read_database(database: str | None) -> list[str]:
    from reference_db.stores.opening import open_store
    from service.settings import Settings

    chosen: dict[str, Any] = {}
    settings = Settings(**chosen)
    store = open_store(database or settings.redis_url or settings.database_directory)
    try:
        return store.cells()
    finally:
        store.close()
