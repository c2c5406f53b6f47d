"""Many users in one request: one user's error does not affect the others."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fingerpost.wire import BatchResponse, BatchResult, LocateResponse
from service.errors import BatchTooLarge, FieldIncorrect, FieldMissing, OutOfMemory, ServiceError, UnknownField
from service.web.media import Format
from service.web.problems import problem_of

USER_VALUES = 320  # one user's body has fewer: a requestId and a trackId of 128 commas each, and two dozen fields

A = TypeVar("A")
B = TypeVar("B")


def parse_items(body: bytes, reads: Format, most: int) -> list[Any]:
    """The items of a batch, parsed but not validated. Each of them is validated by itself.

    Raises `BatchTooLarge` for more than `most`, `MalformedBody`, or a `FieldError` where there is no array of items.
    """
    batch = reads.parsed(body, USER_VALUES * most)
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


def batch_response(results: Sequence[LocateResponse | ServiceError]) -> BatchResponse:
    return BatchResponse(results=[_result(one) for one in results])


def _result(result: LocateResponse | ServiceError) -> BatchResult:
    if isinstance(result, ServiceError):
        return BatchResult(problem=problem_of(result))
    return BatchResult(location=result)
