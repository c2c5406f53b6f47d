"""``GET /cells/{cellId}/export``: a version as a file that can be imported again."""

import os
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import IO, cast, get_args

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from reference_db.contents import read_contents
from reference_db.exporting import FileFormat, export_fingerprints
from reference_db.manifest import Manifest
from reference_db.stores.store import Store
from service.errors import CellTooSmall
from service.updates.cells import cell_id_of
from service.updates.publisher import Publisher
from service.updates.query import Query
from service.updates.upload import nameless_file, of_disk
from service.updates.version_name import find_version

_CHUNK = 2**18


class Export:
    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def endpoint(self, request: Request) -> Response:
        cell_id, query = cell_id_of(request), Query(request, "version", "format")
        file_format = cast(FileFormat, query.choice("format", get_args(FileFormat)))
        store, version = self._publisher.store, query.text("version")
        manifest, file = await self._publisher.read(_written, store, cell_id, version, file_format)
        return _Download(file, manifest, f"{cell_id}-{manifest.version}.{file_format}")


class _Download(StreamingResponse):
    """A file without a name, gone when it is sent or nobody wants it any more."""

    def __init__(self, file: IO[bytes], manifest: Manifest, name: str) -> None:
        self._file = file
        headers = {
            "Content-Length": str(os.fstat(file.fileno()).st_size),
            "Content-Disposition": f'attachment; filename="{name}"',
            "ETag": f'"{manifest.version}"',
        }
        super().__init__(self._chunks(), headers=headers, media_type="application/octet-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)

    async def _chunks(self) -> AsyncIterator[bytes]:
        while chunk := await run_in_threadpool(self._file.read, _CHUNK):
            yield chunk


def _written(store: Store, cell_id: str, version: str | None, file_format: FileFormat) -> tuple[Manifest, IO[bytes]]:
    manifest = find_version(store, cell_id, version)
    contents = read_contents(store, manifest)
    if not len(contents):
        raise CellTooSmall("/cellId", "the version holds no fingerprint")
    file = nameless_file()
    try:
        export_fingerprints(contents, file, file_format)
        file.seek(0)
    except OSError as error:
        with suppress(OSError):  # what had no room before has none now
            file.close()
        raise of_disk(error, "the export") from error
    return manifest, file
