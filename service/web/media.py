"""The two media types of bodies, JSON and msgpack, and how a body is read within its limits."""

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response

from service import errors
from service.web.body_budget import account_of
from service.web.msgpack_values import has_more_values
from service.web.problems import field_error
from service.web.repeated_names import find_repeated_json, find_repeated_msgpack

M = TypeVar("M", bound=BaseModel)


LARGE_BYTES = 2**18  # the event loop parses and decodes shorter bodies in a millisecond
_HARMLESS_BYTES = 2**18  # of msgpack: even if each byte becomes an object, they take less than 20 MiB
_MOST_ERRORS = 1000  # to list a million errors takes ten seconds


class Format(NamedTuple):
    """How bodies of one media type are parsed to Python objects, and answers encoded."""

    media_type: str
    parse: Callable[[bytes], Any]
    has_more_values: Callable[[bytes, int], bool]
    find_repeated: Callable[[bytes, Any], str | None]
    encode: Callable[[Any], bytes]

    def read(self, body: bytes, model: type[M], most_values: int | None = None) -> M:
        """A body as a model. Raises what `parsed` and `validated` raise."""
        return validated(self.parsed(body, most_values), model)

    def parsed(self, body: bytes, most_values: int | None = None) -> Any:
        """A body as dicts, lists, text, numbers and, in msgpack, bytes.

        Raises `FieldIncorrect` for a field that comes twice, and `MalformedBody`, also for more than `most_values`
        values: an object takes up to seventy times the memory of the byte that describes it.
        """
        if most_values is not None and self.has_more_values(body, most_values):
            raise errors.MalformedBody(f"the body holds more than {most_values} values")
        try:
            parsed = self.parse(body)
            repeated = self.find_repeated(body, parsed)
        except (ValueError, RecursionError) as error:
            reason = "" if isinstance(error, UnicodeDecodeError | RecursionError) else f": {error}"
            raise errors.MalformedBody(f"the body is not valid {self.media_type}{reason}") from error
        if repeated is not None:
            raise errors.FieldIncorrect(repeated, "comes twice")
        return parsed

    def response(self, answer: Any) -> Response:
        """A model, or a dict with the names of the wire."""
        return Response(self.encode(answer), media_type=self.media_type)


def validated(parsed: Any, model: type[M]) -> M:
    """A parsed body as a model. Raises a `FieldError` for the first field that the model does not allow.

    The error names no field where more than a thousand are wrong.
    """
    try:
        return model.__pydantic_validator__.validate_python(parsed, by_alias=True, by_name=False)  # type: ignore[no-any-return]
    except ValidationError as error:
        if error.error_count() > _MOST_ERRORS:
            raise errors.FieldIncorrect("", f"{error.error_count()} fields are wrong") from None
        raise field_error(error) from error


def _parse_json(body: bytes) -> Any:
    return from_json(body, allow_inf_nan=False)


def _encode_json(answer: Any) -> bytes:
    # msgspec takes a third of the time of pydantic for the dicts of the busiest routes.
    return answer.model_dump_json().encode() if isinstance(answer, BaseModel) else msgspec.json.encode(answer)


def _encode_msgpack(answer: Any) -> bytes:
    return msgspec.msgpack.encode(answer.model_dump() if isinstance(answer, BaseModel) else answer)


def _has_more_values_json(body: bytes, most: int) -> bool:
    return body.count(b",") > most  # commas inside text count too


def _has_more_values_msgpack(body: bytes, most: int) -> bool:
    return len(body) > _HARMLESS_BYTES and has_more_values(body, most)


JSON = Format("application/json", _parse_json, _has_more_values_json, find_repeated_json, _encode_json)
MSGPACK = Format(
    "application/msgpack",
    msgspec.msgpack.decode,
    _has_more_values_msgpack,
    find_repeated_msgpack,
    _encode_msgpack,
)

_FORMATS = {
    "application/json": JSON,
    "application/msgpack": MSGPACK,
    "application/vnd.msgpack": MSGPACK,
    "application/x-msgpack": MSGPACK,
}
READING_ERRORS = (
    errors.MalformedBody,
    errors.BodyTooLarge,
    errors.BodyTooSlow,
    errors.TooManyBodies,
    errors.UnsupportedMediaType,
    errors.NotAcceptable,
    errors.FieldMissing,
    errors.FieldIncorrect,
    errors.UnknownField,
)
_WILDCARDS = {"*/*", "application/*"}
_REFUSED = re.compile(r"\bq=0(\.0*)?$")


def formats(request: Request) -> tuple[Format, Format]:
    """The format of the body, by Content-Type, and that of the answer, by Accept.

    Raises `UnsupportedMediaType`, for a compressed body too, and `NotAcceptable`.
    """
    headers = _headers_of(request)
    reads = format_of(_media_type(headers))
    return reads, _response_format(headers.get(b"accept", b"*/*").decode("latin-1"), otherwise=reads)


def media_type_of(request: Request) -> str:
    """The media type of the body, in lower case and without parameters. JSON where there is neither body nor type.

    Raises `UnsupportedMediaType` for a compressed body.
    """
    return _media_type(_headers_of(request))


def format_of(media_type: str, others: Sequence[str] = ()) -> Format:
    """Raises `UnsupportedMediaType`, which names `others` as supported too."""
    if media_type not in _FORMATS:
        raise errors.UnsupportedMediaType(
            f"cannot read {errors.shorten_name(media_type)!r}; supported: {_known(others)}"
        )
    return _FORMATS[media_type]


async def read_body(request: Request, limit: int, timeout_s: float) -> bytes:
    """The whole body, counted while it arrives: at most `limit` bytes within `timeout_s` seconds.

    Raises `BodyTooLarge`, `BodyTooSlow`, `TooManyBodies`, or `MalformedBody` when the client closes the connection.
    """
    length = _headers_of(request).get(b"content-length", b"0")
    if length.isdigit() and int(length) > limit:
        raise errors.BodyTooLarge(f"the limit is {limit} bytes")
    account = account_of(request)
    body = bytearray()  # one large array: small ones would leave holes that keep the memory from the system
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise errors.MalformedBody("the body ended early")
                chunk: bytes = message.get("body", b"")
                account.take(len(chunk))
                if len(body) + len(chunk) > limit:
                    raise errors.BodyTooLarge(f"the limit is {limit} bytes")
                if not body and not message.get("more_body"):
                    return chunk  # not copied
                body += chunk
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError as error:
        raise errors.BodyTooSlow(f"the body took longer than {timeout_s:g} s") from error


def _headers_of(request: Request) -> dict[bytes, bytes]:
    """The first of each header. `request.headers` would search all headers for each name."""
    return dict(reversed(request.scope["headers"]))


def _media_type(headers: dict[bytes, bytes]) -> str:
    if (coding := headers.get(b"content-encoding", b"identity")) != b"identity":
        name = errors.shorten_name(coding.decode("latin-1"))
        raise errors.UnsupportedMediaType(f"cannot read bodies encoded as {name!r}")
    return headers.get(b"content-type", b"application/json").decode("latin-1").partition(";")[0].strip().lower()


def _response_format(accepted: str, otherwise: Format) -> Format:
    """The first acceptable format, `otherwise` where the client accepts any."""
    for part in accepted.lower().split(","):
        name, _, parameters = (text.strip() for text in part.partition(";"))
        if _REFUSED.search(parameters):
            continue
        if name in _WILDCARDS:
            return otherwise
        if name in _FORMATS:
            return _FORMATS[name]
    raise errors.NotAcceptable(f"answers are {_known()}")


def _known(others: Sequence[str] = ()) -> str:
    return " or ".join(dict.fromkeys([*(known.media_type for known in _FORMATS.values()), *others]))
