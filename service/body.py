"""The body of a request, and the two formats that bodies come in."""

import asyncio
import re
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from service import errors
from service.problem import field_error

T = TypeVar("T")


class _Decode(Protocol):
    def __call__(self, body: bytes | msgspec.Raw, /, *, type: type[T]) -> T: ...


class _Encode(Protocol):
    def __call__(self, value: Any, /) -> bytes: ...


class Format(NamedTuple):
    """How bodies of one media type are read and written."""

    media_type: str
    decode: _Decode
    encode: _Encode

    def read(self, body: bytes | msgspec.Raw, expected: type[T]) -> T:
        """Raises `MalformedBody`, or a `FieldError` for the first field that the schema does not allow."""
        try:
            return self.decode(body, type=expected)
        except msgspec.ValidationError as error:
            raise field_error(error) from error
        except msgspec.DecodeError as error:
            raise errors.MalformedBody(f"not {self.media_type}: {error}") from error
        except (UnicodeDecodeError, RecursionError) as error:
            raise errors.MalformedBody(f"not {self.media_type}") from error


JSON = Format("application/json", msgspec.json.decode, msgspec.json.encode)
MSGPACK = Format("application/msgpack", msgspec.msgpack.decode, msgspec.msgpack.encode)

_FORMATS = {
    "application/json": JSON,
    "application/msgpack": MSGPACK,
    "application/vnd.msgpack": MSGPACK,
    "application/x-msgpack": MSGPACK,
}
_WILDCARDS = {"*/*", "application/*"}
_REFUSED = re.compile(r"\bq=0(\.0*)?$")


def request_format(request: Request) -> Format:
    """By Content-Type, JSON where absent. Raises `UnsupportedMediaType`, for a compressed body too."""
    if (coding := request.headers.get("content-encoding", "identity")) != "identity":
        raise errors.UnsupportedMediaType(f"bodies encoded as {coding!r} are not read")
    named = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if named not in _FORMATS:
        raise errors.UnsupportedMediaType(f"bodies of type {named!r} are not read, only {_known()}")
    return _FORMATS[named]


def response_format(request: Request, otherwise: Format) -> Format:
    """The first acceptable one by Accept, `otherwise` where anything goes. Raises `NotAcceptable`."""
    accepted = request.headers.get("accept", "*/*")
    for part in accepted.lower().split(","):
        name, _, parameters = (text.strip() for text in part.partition(";"))
        if _REFUSED.search(parameters):
            continue
        if name in _WILDCARDS:
            return otherwise
        if name in _FORMATS:
            return _FORMATS[name]
    raise errors.NotAcceptable(f"answers are {_known()}")


async def read_body(request: Request, limit: int, timeout: float) -> bytes:
    """The whole body, counted while it streams in: `limit` bytes and `timeout` seconds at most.

    Raises `BodyTooLarge`, `BodyTooSlow`, or `MalformedBody` when the client hangs up.
    """
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > limit:
        raise errors.BodyTooLarge(f"the limit is {limit} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(timeout):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise errors.BodyTooLarge(f"the limit is {limit} bytes")
    except ClientDisconnect as error:
        raise errors.MalformedBody("the body ended early") from error
    except TimeoutError as error:
        raise errors.BodyTooSlow(f"the body took longer than {timeout:g} s") from error
    return bytes(body)


def _known() -> str:
    return " or ".join(dict.fromkeys(known.media_type for known in _FORMATS.values()))
