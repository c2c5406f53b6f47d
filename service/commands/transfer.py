"""Uploads and downloads of files, with a progress bar."""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx
    from rich.progress import Progress, TaskID

_CHUNK_BYTES = 2**18


async def upload_file(
    client: "httpx.AsyncClient", method: str, path: str, file: Path, params: dict[str, str], headers: dict[str, str]
) -> "httpx.Response":
    """Streams a file as the body of a request. Raises `OSError` if the file cannot be read."""
    size = file.stat().st_size
    body_headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
    with _progress_bar(f"sending {file.name}", size) as (progress, task):

        async def read_chunks() -> AsyncIterator[bytes]:
            with file.open("rb") as opened:
                while chunk := opened.read(_CHUNK_BYTES):
                    yield chunk
                    progress.advance(task, len(chunk))
            progress.update(task, description="publishing")

        return await client.request(method, path, params=params, headers=headers | body_headers, content=read_chunks())


async def download_file(response: "httpx.Response", file: Path) -> None:
    """Writes the body of a streamed response to a file. A broken download leaves no file. Raises `OSError`."""
    size = int(response.headers.get("content-length", 0)) or None
    partial = file.with_name(f".{file.name}.part")
    try:
        with _progress_bar(f"receiving {file.name}", size) as (progress, task), partial.open("wb") as opened:
            async for chunk in response.aiter_bytes(_CHUNK_BYTES):
                opened.write(chunk)
                progress.advance(task, len(chunk))
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _progress_bar(title: str, size: int | None) -> Iterator[tuple["Progress", "TaskID"]]:
    """A bar on standard error; shown only if that is a terminal. `size` is in bytes."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
        yield progress, progress.add_task(title, total=size)
