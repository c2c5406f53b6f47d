"""Many users in one request: one user's error does not affect the others."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from service.errors import (
    BatchTooLarge,
    FieldIncorrect,
    FieldMissing,
    MalformedBody,
    OutOfMemory,
    ServiceError,
    UnknownField,
)
from service.locating.answers import Answer
from service.locating.estimates import Json
from service.web.media import JSON, Format
from service.web.problems import problem_of

USER_VALUES = 320  # one user's body has fewer: a requestId and a trackId of 128 commas each, and two dozen fields

A = TypeVar("A")
B = TypeVar("B")


def parse_items(body: bytes, reads: Format, most: int) -> list[Any]:
    """The items of a batch, parsed but not validated. An item that cannot be parsed is its error.

    Raises `BatchTooLarge` for more than `most`, `MalformedBody`, or a `FieldError` where there is no array of items.
    """
    if reads.has_more_values(body, USER_VALUES * most):
        raise BatchTooLarge("/items", f"more values than {most} items may have")
    try:
        batch = reads.parsed(body)
    except MalformedBody as error:
        batch = _parse_one_by_one(body, reads, error)
    except FieldIncorrect as error:
        if not error.invalid_params[0].param.startswith("/items/"):
            raise
        batch = _parse_one_by_one(body, reads, error)
    if not isinstance(batch, dict):
        raise FieldIncorrect("", "Input should be an object")
    if unknown := next((name for name in batch if name != "items"), None):
        raise UnknownField(f"/{unknown}", "unknown field")
    if "items" not in batch:
        raise FieldMissing("/items", "required field is missing")
    items = batch["items"]
    if not isinstance(items, list) or not items:
        raise FieldIncorrect("/items", "Input should be an array of at least one item")
    if len(items) > most:
        raise BatchTooLarge("/items", f"{len(items)} items, {most} at most")
    return items


def _parse_one_by_one(body: bytes, reads: Format, otherwise: ServiceError) -> dict[str, list[Any]]:
    """A batch of which an item cannot be parsed. Raises `otherwise` where the items cannot be told apart."""
    decode = msgspec.json.decode if reads is JSON else msgspec.msgpack.decode
    try:
        split = decode(body, type=dict[str, list[msgspec.Raw]])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise otherwise from None
    return {name: map_results(items, lambda item: reads.parsed(bytes(item))) for name, items in split.items()}


def map_results(items: Sequence[A | ServiceError], step: Callable[[A], B]) -> list[B | ServiceError]:
    """Applies `step` to each item. An item that is an error stays one; an item whose step fails becomes its error."""
    results: list[B | ServiceError] = []
    for item in items:
        if isinstance(item, ServiceError):
            results.append(item)
            continue
        try:
            results.append(step(item))
        except ServiceError as error:
            results.append(error)
        except MemoryError:
            results.append(OutOfMemory("there is not enough memory for this user"))
    return results


def describe_batch(results: Sequence[Answer | ServiceError]) -> Json:
    """A `BatchResponse` with the names of the wire."""
    return {
        "results": [
            {"problem": problem_of(one).model_dump()} if isinstance(one, ServiceError) else {"location": one.body}
            for one in results
        ]
    }
