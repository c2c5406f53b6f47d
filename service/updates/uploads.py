"""Bodies too large for memory. They stream into a temporary file without a name, which no crash leaves behind."""

import asyncio
import inspect
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import wraps
from hashlib import sha256
from typing import IO, Annotated, Any, NamedTuple

from fastapi import Body, Request
from pydantic import BaseModel
from starlette.responses import Response

from reference_db.durable_file import NO_ROOM
from service import errors
from service.web.body_budget import account_of
from service.web.routes import ApiRoute

_WRITE_BYTES = 2**20  # written and hashed in one visit to a thread

Endpoint = Callable[..., Coroutine[Any, Any, Response]]


class Upload(NamedTuple):
    """A whole body on disk, and the sha256 of the request's head and the body."""

    file: IO[bytes]
    digest: str


class UploadRoute(ApiRoute):
    """Documents the body that `takes_upload` names, and leaves the body to the endpoint, which streams it to disk."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint = inspect.unwrap(self.endpoint)
        unread = ApiRoute(self.path, endpoint, methods=self.methods, response_model=None)
        return unread.get_route_handler()


def takes_upload(model: type[BaseModel]) -> Callable[[Endpoint], Endpoint]:
    """Adds a body to the documented signature of an endpoint of an `UploadRoute`."""

    def document(endpoint: Endpoint) -> Endpoint:
        @wraps(endpoint)
        async def documented(*args: Any, **kwargs: Any) -> Response:
            return await endpoint(*args, **kwargs)

        signature = inspect.signature(endpoint)
        body = inspect.Parameter("body", inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[model, Body()])
        documented.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*signature.parameters.values(), body]
        )
        return documented

    return document


@asynccontextmanager
async def receive_upload(request: Request, head: bytes, limit: int, timeout_s: float) -> AsyncIterator[Upload]:
    """Receives a body of at most `limit` bytes. The client may pause for at most `timeout_s` seconds.

    Raises `BodyTooLarge`, `BodyTooSlow`, `TooManyBodies`, `MalformedBody` when the client closes the connection,
    `StorageFull` or `StoreDown`.
    """
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > limit:
        raise errors.BodyTooLarge(f"the limit is {limit} bytes")
    digest, left = sha256(head), limit

    def write(part: bytes) -> None:
        digest.update(part)
        file.write(part)

    file = open_unnamed_file()
    try:
        try:
            async for part in _receive_parts(request, timeout_s):
                left -= len(part)
                if left < 0:
                    raise errors.BodyTooLarge(f"the limit is {limit} bytes")
                await asyncio.to_thread(write, part)
            file.flush()
        except OSError as error:
            raise disk_error(error, "the upload") from error
        yield Upload(file, digest.hexdigest())
    finally:
        with suppress(OSError):  # closing flushes, which fails again on a full disk
            file.close()


def open_unnamed_file() -> IO[bytes]:
    """A temporary file that the caller closes. Raises `StorageFull` or `StoreDown`."""
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise disk_error(error, "temporary files") from error


def disk_error(error: OSError, purpose: str) -> errors.ServiceError:
    """The error for a client whose request needed the disk."""
    if error.errno in NO_ROOM:
        return errors.StorageFull(f"no space is left on the disk for {purpose}")
    return errors.StoreDown(f"the disk cannot store {purpose}")


async def _receive_parts(request: Request, timeout_s: float) -> AsyncIterator[bytes]:
    """The body in parts of about `_WRITE_BYTES` bytes."""
    account = account_of(request)
    chunks: list[bytes] = []
    more = True
    while more:
        try:
            async with asyncio.timeout(timeout_s):
                message = await request.receive()
        except TimeoutError as error:
            raise errors.BodyTooSlow(f"no data arrived for {timeout_s:g} s") from error
        if message["type"] == "http.disconnect":
            raise errors.MalformedBody("the body ended early")
        chunks.append(message.get("body", b""))
        account.take(len(chunks[-1]))
        more = message.get("more_body", False)
        if not more or sum(map(len, chunks)) >= _WRITE_BYTES:
            yield b"".join(chunks)
            chunks = []
            account.release()
