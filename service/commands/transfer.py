"""Uploads and downloads of files, with a progress bar."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import httpx
    from rich.progress import Progress, TaskID

_CHUNK_BYTES = 2**18
_ASKED_EVERY_S = 0.5
_UNTOLD = "working"  # where the service does not tell the stage


async def upload_file(
    client: "httpx.AsyncClient", method: str, path: str, file: Path, params: dict[str, str], headers: dict[str, str]
) -> "httpx.Response":
    """Streams a file as the body of a change of a cell, and shows the stages of the change.

    Raises `OSError` if the file cannot be read.
    """
    size = file.stat().st_size
    body_headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
    with _progress_bar(f"sending {file.name}", size) as (progress, task):
        sent = asyncio.Event()

        async def read_chunks() -> AsyncIterator[bytes]:
            with file.open("rb") as opened:
                while chunk := opened.read(_CHUNK_BYTES):
                    yield chunk
                    progress.advance(task, len(chunk))
            sent.set()

        content = read_chunks()
        request = asyncio.create_task(
            client.request(method, path, params=params, headers=headers | body_headers, content=content)
        )
        show = partial(progress.update, task) if sys.stderr.isatty() else _print_stage
        async for stage in _list_stages(client, path, request, sent):
            show(description=stage)
        return await request


async def _list_stages(
    client: "httpx.AsyncClient", path: str, request: "asyncio.Task[httpx.Response]", sent: asyncio.Event
) -> AsyncIterator[str]:
    """The stages of a change of a cell, as long as its request runs. A service of before 1.0 does not tell them."""
    cell, shown = "/".join(path.split("/")[:3]), ""
    while not request.done():
        await asyncio.wait([request], timeout=_ASKED_EVERY_S)
        if request.done() or not sent.is_set():
            continue
        stage = await _ask_stage(client, f"{cell}/change")
        if stage not in (shown, None):
            shown = stage
            yield str(stage)
        if stage == _UNTOLD:
            return


async def _ask_stage(client: "httpx.AsyncClient", path: str) -> str | None:
    import httpx

    try:
        answer = await client.get(path)
    except httpx.HTTPError:
        return _UNTOLD
    try:
        body = answer.json()
        known = answer.is_success or body.get("cause") == "CELL_NOT_FOUND"  # a cell whose creation has not begun yet
        stage: str | None = body.get("stage") if known else _UNTOLD
    except (ValueError, AttributeError):  # no answer of this API: what the upload gets will say so
        return _UNTOLD
    return stage


def _print_stage(description: str) -> None:
    typer.echo(f"fingerpost: {description}", err=True)


async def download_file(response: "httpx.Response", file: Path) -> None:
    """Writes an export to a file. A broken download leaves the file as it was. Raises `NoAnswer` or `OSError`."""
    from fingerpost.downloads import check_export, replacing

    size = int(response.headers.get("content-length", 0)) or None
    with replacing(file) as partial:
        with _progress_bar(f"receiving {file.name}", size) as (progress, task), partial.open("wb") as opened:
            async for chunk in response.aiter_bytes(_CHUNK_BYTES):
                opened.write(chunk)
                progress.advance(task, len(chunk))
        check_export(partial, file.suffix)


@contextmanager
def _progress_bar(title: str, size: int | None) -> Iterator[tuple["Progress", "TaskID"]]:
    """A bar on standard error; shown only if that is a terminal. `size` is in bytes."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
        yield progress, progress.add_task(title, total=size)
