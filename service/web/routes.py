"""The two kinds of routes of the service: `ApiRoute`, and `BareRoute` for the busiest paths."""

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from http import HTTPStatus
from types import UnionType
from typing import Annotated, Any, TypeVar

from fastapi import Body, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import FieldIncorrect, UnknownField
from service.web.media import format_of, media_type_of, read_body
from service.web.problems import answer_exception

_FEW_VALUES = 256  # more than the fields of any body that has no list
_LISTED_BYTES = 16  # no element of a list is shorter: the ids of fingerprints have 16 digits

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
Endpoint = TypeVar("Endpoint", bound=Callable[[Request], Awaitable[Response]])


class ApiRoute(APIRoute):
    """A FastAPI route that refuses unknown parameters of the query, and that reads JSON or msgpack within the limits.

    FastAPI ignores a misspelt parameter, and a misspelt `dryRun` would delete. It reads a body without a deadline,
    knows no msgpack, and answers 400 to every error. So this route reads the body into the model that the endpoint
    names, and FastAPI finds the model ready.
    """

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()
        parameters = set(_query_parameters(self.dependant))
        model: Any = None if self.body_field is None else self.body_field.field_info.annotation

        async def check_and_handle(request: Request) -> Response:
            _check_query(request, parameters)
            if model is not None:
                reads = format_of(media_type_of(request))
                settings = request.app.state.settings
                body = await read_body(request, settings.body_limit_bytes, settings.body_timeout_s)
                most_values = _FEW_VALUES + len(body) // _LISTED_BYTES
                request = _ReadRequest(request.scope, request.receive, body, reads.read(body, model, most_values))
            return await handle(request)

        return check_and_handle


class _ReadRequest(Request):
    """A request whose body has been read: `body` is what arrived, `json` the model."""

    def __init__(self, scope: Scope, receive: Receive, body: bytes, model: BaseModel) -> None:
        others = [header for header in scope["headers"] if header[0] != b"content-type"]
        super().__init__({**scope, "headers": [(b"content-type", b"application/json"), *others]}, receive)
        self._read, self._model = body, model

    async def body(self) -> bytes:
        return self._read

    async def json(self) -> BaseModel:
        return self._model


class BareRoute(APIRoute):
    """A route that FastAPI documents, and whose endpoint `BareRoutes` calls with the request alone.

    For the routes that back ends call for every user. FastAPI spends as much on such a request as decoding it takes: to
    match the route, to solve dependencies, to open three exit stacks (`benchmarks/results/rebuild.md`). The endpoints
    read the body themselves; `takes` documents it.
    """

    def get_route_handler(self) -> Handler:
        endpoint: Handler = self.endpoint
        return endpoint


class BareRoutes:
    """ASGI middleware: answers each `BareRoute` by its exact path and method, and leaves other requests to FastAPI.

    Exceptions reach the same handlers as elsewhere. A path that ends with a new line is unknown: the patterns of
    Starlette's router end with `$`, which would let it through to the path without the new line. Scopes are checked
    against the whole path.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._routes = {
            (method, route.path): route
            for route in routes
            if isinstance(route, BareRoute)
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if route is None:
            if scope["type"] == "http" and scope["path"].endswith("\n"):
                unknown = await answer_exception(Request(scope, receive, send), HTTPException(HTTPStatus.NOT_FOUND))
                await unknown(scope, receive, send)
            else:
                await self._app(scope, receive, send)
            return
        scope["route"] = route  # for the metrics and the trace
        request = Request(scope, receive, send)
        try:
            response: Response = await route.endpoint(request)
        except Exception as error:
            response = await answer_exception(request, error)
        await response(scope, receive, send)


def takes(model: type[BaseModel] | UnionType) -> Callable[[Endpoint], Endpoint]:
    """Documents the body that an endpoint reads by itself, one model of a union. FastAPI documents what the signature
    says.
    """

    def document(endpoint: Endpoint) -> Endpoint:
        request = inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Request)
        body = inspect.Parameter("body", inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[model, Body()])
        endpoint.__signature__ = inspect.Signature([request, body])  # type: ignore[attr-defined]
        return endpoint

    return document


def _query_parameters(dependant: Dependant) -> Iterator[str]:
    yield from (field.alias for field in dependant.query_params)
    for dependency in dependant.dependencies:
        yield from _query_parameters(dependency)


def _check_query(request: Request, known: set[str]) -> None:
    """Raises `UnknownField` for a parameter that the route does not name, `FieldIncorrect` for one that comes twice."""
    given = set()
    for name, _ in request.query_params.multi_items():
        if name not in known:
            raise UnknownField(f"query {name}", f"unknown, not one of {', '.join(sorted(known)) or 'none'}")
        if name in given:
            raise FieldIncorrect(f"query {name}", "comes twice")
        given.add(name)
