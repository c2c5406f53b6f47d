"""Errors as clients see them: RFC 9457 problem details. Every exception becomes a response here and nowhere else."""

import errno
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from fingerpost.wire import InvalidParameter, Problem
from fingerpost.wire_model import NOT_BASE64
from fingerpost.wire_provenance import Fallback
from reference_db.azimuth import describe_former_angle
from service import errors
from service.errors import FieldError, InvalidParam, ServiceError, shorten_name
from service.telemetry.correlation import correlation_headers
from service.telemetry.problem_cause import note_cause

PROBLEM_JSON = "application/problem+json"

_HTTP_CAUSES = {404: "RESOURCE_URI_STRUCTURE_NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}
_FIELD_ERRORS: dict[str, type[FieldError]] = {
    "missing": errors.FieldMissing,
    "extra_forbidden": errors.UnknownField,
    NOT_BASE64: errors.CsiNotBase64,
}


def problem_of(error: ServiceError) -> Problem:
    """The problem details of an error."""
    problem = _problem(error.status, error.cause, error.detail, error.invalid_params)
    if not isinstance(error, errors.PositioningMethodFailure):
        return problem
    failures = [{"method": method, "cause": cause} for method, cause in error.failures]
    return problem.model_copy(update={"fallbacks": [Fallback.model_validate(one) for one in failures]})


def encode_problem(status: HTTPStatus, cause: str, detail: str) -> bytes:
    """The problem details of a message that is not HTTP, encoded."""
    return _encode(_problem(status, cause, detail))


def field_error(error: ValidationError) -> FieldError:
    """The error of the first field at fault; a field that is missing comes last, as it may be there but misspelt.

    The input is not echoed, but for the angle of an array: CSI and places are personal.
    """
    found = error.errors(include_url=False, include_context=False)
    first = min(found, key=lambda one: one["type"] == "missing")
    param = "".join(f"/{_escape(str(part))}" for part in first["loc"])
    if first["type"] == "extra_forbidden" and (advice := describe_former_angle(str(first["loc"][-1]), first["input"])):
        return errors.UnknownField(param, advice)
    return _field_error(param, first["type"], first["msg"])


async def on_service_error(request: Request, error: ServiceError) -> Response:
    note_cause(request.scope, error.cause)
    return Response(_encode(problem_of(error)), error.status, error.headers, media_type=PROBLEM_JSON)


async def on_http_exception(request: Request, error: HTTPException) -> Response:
    """For unknown paths and methods."""
    headers = error.headers
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and (methods := _allowed_methods(request)):
        headers = {"Allow": ", ".join(methods)}
    status = HTTPStatus(error.status_code)
    cause = _HTTP_CAUSES.get(status, "UNSPECIFIED_MSG_FAILURE")
    note_cause(request.scope, cause)
    problem = _problem(status, cause, f"{request.method} {shorten_name(request.url.path)}")
    return Response(_encode(problem), status, headers, media_type=PROBLEM_JSON)


async def on_invalid_parameter(request: Request, error: RequestValidationError) -> Response:
    """For parameters of the path, the query and the headers. As in 3GPP TS 29.571 the query is named in the pointer."""
    first = error.errors()[0]
    place, *names = first["loc"]
    name = "".join(map(str, names[:1]))  # the rest names the member of a union, not a part of the request
    param = f"/{name}" if place in ("path", "body") else f"{place} {name}"
    return await on_service_error(request, _field_error(param, first["type"], first["msg"]))


async def on_scarce_memory(request: Request, error: Exception) -> Response:
    """For a `MemoryError`, and for an `OSError` or a `RuntimeError` by which Python reports a lack of memory.

    Python raises an `OSError` where memory cannot be mapped, and a `RuntimeError` where a thread gets no stack. Raises
    `error` again where memory is not the cause.
    """
    match error:
        case MemoryError() | OSError(errno=errno.ENOMEM):
            scarce = True
        case _:
            scarce = "can't start new thread" in str(error)
    if not scarce:
        raise error
    return await on_service_error(request, errors.OutOfMemory("there is not enough memory for this request"))


async def on_unexpected_error(request: Request, error: Exception) -> Response:
    """For everything else. The traceback goes to the log; the client learns that it is not at fault."""
    problem = _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "SYSTEM_FAILURE", "unexpected failure")
    return Response(_encode(problem), problem.status, correlation_headers(), media_type=PROBLEM_JSON)


# FastAPI's type of a handler is wider than each of these, which take the exceptions that they are registered for.
EXCEPTION_HANDLERS: dict[int | type[Exception], Any] = {
    ServiceError: on_service_error,
    HTTPException: on_http_exception,
    RequestValidationError: on_invalid_parameter,
    MemoryError: on_scarce_memory,
    OSError: on_scarce_memory,
    RuntimeError: on_scarce_memory,
    Exception: on_unexpected_error,
}


async def answer_exception(request: Request, error: Exception) -> Response:
    """The response of the handler for the nearest class of `error`. Raises unexpected errors again: the server logs
    them and answers.
    """
    kind = next(kind for kind in type(error).__mro__ if kind in EXCEPTION_HANDLERS)
    if kind is Exception:
        raise error
    response: Response = await EXCEPTION_HANDLERS[kind](request, error)
    return response


def problem_responses(*kinds: type[ServiceError]) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI responses of a route that raises errors of these kinds, a status each with its causes."""
    causes: dict[int, list[str]] = {}
    for kind in kinds:
        causes.setdefault(kind.status, []).append(f"`{kind.cause}`: {(kind.__doc__ or '').strip().splitlines()[0]}")
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        **{
            status: {"description": "\n".join(f"- {line}" for line in sorted(lines)), "content": content}
            for status, lines in sorted(causes.items())
        },
        "default": {"description": "Any other problem.", "content": content},
    }


def _allowed_methods(request: Request) -> list[str]:
    """The methods of all routes of the path, none for a mounted folder. A router names the first route's only."""
    methods = {
        method
        for route in iter_route_contexts(request.app.routes)
        if route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods or ()
    }
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


def _escape(part: str) -> str:
    """A part of a JSON pointer (RFC 6901)."""
    return part.replace("~", "~0").replace("/", "~1")


def _field_error(param: str, kind: str, message: str) -> FieldError:
    match kind:
        case "missing":
            return errors.FieldMissing(param, "required field is missing")
        case "extra_forbidden":
            return errors.UnknownField(param, "unknown field")
        case "model_type":
            message = "Input should be an object"
    reason = message.removeprefix("Value error, ")
    return _FIELD_ERRORS.get(kind, errors.FieldIncorrect)(param, reason)


def _problem(status: HTTPStatus, cause: str, detail: str, invalid_params: Sequence[InvalidParam] = ()) -> Problem:
    params = [InvalidParameter(param=param, reason=reason) for param, reason in invalid_params]
    return Problem(title=status.phrase, status=status, detail=detail, cause=cause, invalid_params=params or None)


def _encode(problem: Problem) -> bytes:
    return problem.model_dump_json().encode()
