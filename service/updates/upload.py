"""Bodies too large for memory: they stream into a file without a name, which is gone however the process ends."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from typing import IO, NamedTuple

from starlette.requests import Request

from reference_db.durable_file import NO_ROOM
from service import errors

_AT_ONCE = 2**20  # bytes written, and hashed, in one visit to a thread


class Upload(NamedTuple):
    """A whole body on disk, and the sha256 of what came before it and of itself."""

    file: IO[bytes]
    digest: str


@asynccontextmanager
async def uploaded(request: Request, head: bytes, limit: int, timeout: float) -> AsyncIterator[Upload]:
    """Receives a body of `limit` bytes at most, whose client is never silent for more than `timeout` seconds.

    Raises `BodyTooLarge`, `BodyTooSlow`, `MalformedBody` when the client hangs up, `StorageFull` or `StoreDown`.
    """
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > limit:
        raise errors.BodyTooLarge(f"the limit is {limit} bytes")
    digest, left = sha256(head), limit

    def keep(part: bytes) -> None:
        digest.update(part)
        file.write(part)

    file = nameless_file()
    try:
        try:
            async for part in _parts(request, timeout):
                left -= len(part)
                if left < 0:
                    raise errors.BodyTooLarge(f"the limit is {limit} bytes")
                await asyncio.to_thread(keep, part)
            file.flush()
        except OSError as error:
            raise of_disk(error, "the upload") from error
        yield Upload(file, digest.hexdigest())
    finally:
        with suppress(OSError):  # what had no room before has none now
            file.close()


def nameless_file() -> IO[bytes]:
    """A temporary file for whoever closes it. Raises `StorageFull` or `StoreDown`."""
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise of_disk(error, "temporary files") from error


def of_disk(error: OSError, what: str) -> errors.ServiceError:
    """What to tell whoever wanted something on the disk."""
    if error.errno in NO_ROOM:
        return errors.StorageFull(f"there is no room for {what}")
    return errors.StoreDown(f"the disk does not take {what}")


async def _parts(request: Request, timeout: float) -> AsyncIterator[bytes]:
    """The body in pieces of about `_AT_ONCE` bytes."""
    pieces: list[bytes] = []
    more = True
    while more:
        try:
            async with asyncio.timeout(timeout):
                message = await request.receive()
        except TimeoutError as error:
            raise errors.BodyTooSlow(f"nothing came for {timeout:g} s") from error
        if message["type"] == "http.disconnect":
            raise errors.MalformedBody("the body ended early")
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
        if not more or sum(map(len, pieces)) >= _AT_ONCE:
            yield b"".join(pieces)
            pieces = []
