"""Files on their way to and from the service, with a bar for whoever watches."""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

_CHUNK = 2**18


async def send_file(
    client: "httpx.AsyncClient", method: str, path: str, file: Path, params: dict[str, str], headers: dict[str, str]
) -> "httpx.Response":
    """Streams a file as the body of a request. Raises `OSError` when it cannot be read."""
    size = file.stat().st_size
    described = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
    with _bar(f"sending {file.name}", size) as (bar, task):

        async def chunks() -> AsyncIterator[bytes]:
            with file.open("rb") as opened:
                while chunk := opened.read(_CHUNK):
                    yield chunk
                    bar.advance(task, len(chunk))
            bar.update(task, description="publishing")

        return await client.request(method, path, params=params, headers=headers | described, content=chunks())


async def save_file(response: "httpx.Response", file: Path) -> None:
    """Writes a streamed response's body to a file, which is whole or not there. Raises `OSError`."""
    size = int(response.headers.get("content-length", 0)) or None
    draft = file.with_name(f".{file.name}.part")
    try:
        with _bar(f"receiving {file.name}", size) as (bar, task), draft.open("wb") as opened:
            async for chunk in response.aiter_bytes(_CHUNK):
                opened.write(chunk)
                bar.advance(task, len(chunk))
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _bar(title: str, size: int | None) -> Iterator[tuple[Any, Any]]:
    """On standard error, and only where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        yield bar, bar.add_task(title, total=size)
