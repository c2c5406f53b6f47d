"""What comes of each user of a request: an answer, or what went wrong, which spoils no other's."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from fingerpost.wire import BatchResponse, BatchResult, LocateResponse, Problem
from service.errors import OutOfMemory, ServiceError
from service.web.problems import problem_of

A = TypeVar("A")
B = TypeVar("B")


def each(items: Sequence[A | ServiceError], step: Callable[[A], B]) -> list[B | ServiceError]:
    """Takes each item a step further; one that has failed, or fails now, becomes its error."""
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
            results.append(OutOfMemory("there is no memory for this user"))
    return results


def single(results: list[LocateResponse | ServiceError]) -> LocateResponse | Problem:
    (result,) = results
    return problem_of(result) if isinstance(result, ServiceError) else result


def batch(results: list[LocateResponse | ServiceError]) -> BatchResponse:
    return BatchResponse(results=[_result(one) for one in results])


def _result(result: LocateResponse | ServiceError) -> BatchResult:
    if isinstance(result, ServiceError):
        return BatchResult(problem=problem_of(result))
    return BatchResult(location=result)
