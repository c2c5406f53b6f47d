"""A version of a cell as a file that can be imported again."""

import os
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import IO

from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from reference_db.contents import read_contents
from reference_db.exporting import FileFormat, export_fingerprints
from reference_db.manifest import Manifest
from reference_db.stores.store import Store
from service.errors import CellTooSmall
from service.updates.fingerprint_input import FILE
from service.updates.history import find_version
from service.updates.uploads import disk_error, open_unnamed_file

_CHUNK_BYTES = 2**18


class Download(StreamingResponse):
    """Streams a temporary file and closes it, also when the client closes the connection."""

    def __init__(self, file: IO[bytes], manifest: Manifest, file_format: FileFormat) -> None:
        self._file = file
        name = f"{manifest.cell.cell_id}-{manifest.version}.{file_format}"
        headers = {
            "Content-Length": str(os.fstat(file.fileno()).st_size),
            "Content-Disposition": f'attachment; filename="{name}"',
            "ETag": f'"{manifest.version}"',
        }
        super().__init__(self._chunks(), headers=headers, media_type=FILE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)

    async def _chunks(self) -> AsyncIterator[bytes]:
        while chunk := await run_in_threadpool(self._file.read, _CHUNK_BYTES):
            yield chunk


def write_export(
    store: Store, cell_id: str, version: str | None, file_format: FileFormat
) -> tuple[Manifest, IO[bytes]]:
    """A version, and a temporary file with its fingerprints. Blocking.

    Raises `CellTooSmall` for a version without fingerprints, `StorageFull`, and what `find_version` raises.
    """
    manifest = find_version(store, cell_id, version)
    contents = read_contents(store, manifest)
    if not len(contents):
        raise CellTooSmall("/cellId", "the version contains no fingerprint")
    file = open_unnamed_file()
    try:
        export_fingerprints(contents, file, file_format)
        file.seek(0)
    except Exception as error:  # on any error the file is closed
        with suppress(OSError):  # closing flushes, which fails again on a full disk
            file.close()
        if isinstance(error, OSError):
            raise disk_error(error, "the export") from error
        raise
    return manifest, file
