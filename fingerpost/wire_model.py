"""The base classes of everything that goes over the wire: JSON or msgpack, camelCase names."""

from base64 import b64encode
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    Strict,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from pydantic.functional_validators import BeforeValidator, WrapValidator
from pydantic_core import PydanticCustomError

NOT_BASE64 = "base64"  # the type of the validation error


class WireModel(BaseModel):
    """An answer. Future versions may add fields, so clients ignore fields that they do not know.

    Python code uses snake_case names, the wire camelCase names. No string is converted to a number, NaN and infinity
    are errors.
    """

    model_config = ConfigDict(
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        strict=True,
        allow_inf_nan=False,
    )


class WireRequest(WireModel):
    """A request, or a part of one. A field that the schema does not know is an error: it may be misspelt."""

    model_config = ConfigDict(extra="forbid")


def optional(description: str | None = None, **constraints: Any) -> Any:
    """The default of a field that may be absent or null, which mean the same. Answers leave it out."""
    return Field(default=None, exclude_if=_is_none, description=description, **constraints)


def null_means(default: object, kind: Any) -> BeforeValidator:
    """For an optional field of a kind that has a default: null means the same as absent."""
    return BeforeValidator(lambda value: default if value is None else value, json_schema_input_type=kind | None)


def _is_none(value: object) -> bool:
    return value is None


# pydantic's own decoder, which reads text of a parsed body eight times as fast as `binascii`.
_BASE64 = TypeAdapter(bytes, config=ConfigDict(val_json_bytes="base64"))


def _decode_base64(value: Any) -> Any:
    """JSON carries bytes as base64, msgpack carries bytes."""
    if not isinstance(value, str):
        return value
    try:
        return _BASE64.validate_strings(value)
    except ValidationError as error:
        raise PydanticCustomError(NOT_BASE64, "not base64") from error


def _encode_base64(value: bytes) -> str:
    return b64encode(value).decode("ascii")


Base64 = Annotated[
    bytes,
    BeforeValidator(_decode_base64),
    PlainSerializer(_encode_base64, when_used="json"),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]


def _read_timestamp(value: Any, read: ValidatorFunctionWrapHandler) -> datetime:
    """pydantic would take a number, and the text of one, for seconds since 1970."""
    if isinstance(value, datetime) or (isinstance(value, str) and value[4:5] == "-"):
        with suppress(ValidationError):
            timestamp: datetime = read(value)
            return timestamp
    raise PydanticCustomError("timestamp", "Input should be an RFC 3339 date and time with a UTC offset")


# Not strict: text is a timestamp, in msgpack too.
Timestamp = Annotated[AwareDatetime, Strict(False), WrapValidator(_read_timestamp)]
