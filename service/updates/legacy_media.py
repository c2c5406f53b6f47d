"""The body of a request, and the two formats that bodies come in."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec
from starlette.requests import Request

from service import errors
from service.updates.legacy_problem import field_error

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


def formats(request: Request) -> tuple[Format, Format]:
    """How to read the body, by Content-Type, and how to write the answer, by Accept.

    Raises `UnsupportedMediaType`, for a compressed body too, and `NotAcceptable`.
    """
    headers = _headers_of(request)
    reads = format_of(_media_type(headers))
    return reads, _response_format(headers.get(b"accept", b"*/*").decode("latin-1"), otherwise=reads)


def media_type_of(request: Request) -> str:
    """A body's, in lower case and without parameters; JSON where absent.

    Raises `UnsupportedMediaType` for a compressed body.
    """
    return _media_type(_headers_of(request))


def format_of(media_type: str, others: Sequence[str] = ()) -> Format:
    """Raises `UnsupportedMediaType`, which names `others` as known too."""
    if media_type not in _FORMATS:
        raise errors.UnsupportedMediaType(f"bodies of type {media_type!r} are not read, only {_known(others)}")
    return _FORMATS[media_type]


def _headers_of(request: Request) -> dict[bytes, bytes]:
    """Of headers that come more than once the first: `request.headers` looks them all through for each name."""
    return dict(reversed(request.scope["headers"]))


def _media_type(headers: dict[bytes, bytes]) -> str:
    if (coding := headers.get(b"content-encoding", b"identity")) != b"identity":
        raise errors.UnsupportedMediaType(f"bodies encoded as {coding.decode('latin-1')!r} are not read")
    return headers.get(b"content-type", b"application/json").decode("latin-1").partition(";")[0].strip().lower()


def _response_format(accepted: str, otherwise: Format) -> Format:
    """The first acceptable one, `otherwise` where anything goes."""
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
    length = _headers_of(request).get(b"content-length", b"0")
    if length.isdigit() and int(length) > limit:
        raise errors.BodyTooLarge(f"the limit is {limit} bytes")
    chunks: list[bytes] = []
    left = limit
    try:
        async with asyncio.timeout(timeout):
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise errors.MalformedBody("the body ended early")
                chunks.append(message.get("body", b""))
                left -= len(chunks[-1])
                if left < 0:
                    raise errors.BodyTooLarge(f"the limit is {limit} bytes")
                if not message.get("more_body"):
                    return b"".join(chunks)  # of a single chunk that is the chunk, not a copy
    except TimeoutError as error:
        raise errors.BodyTooSlow(f"the body took longer than {timeout:g} s") from error


def _known(others: Sequence[str] = ()) -> str:
    return " or ".join(dict.fromkeys([*(known.media_type for known in _FORMATS.values()), *others]))
