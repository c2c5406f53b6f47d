"""`GET /openapi.json`: what FastAPI generates, and what FastAPI cannot know."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import APIRoute

from service.web.media import JSON
from service.web.problems import problem_responses

Json = dict[str, Any]
Examples = dict[str, Json]  # by operationId: examples of the body by their title
ScopeNeeded = Callable[[str, str], str | None]  # of a method and a path

_KEY = """\
An API key, as `fingerpost keys add` makes it. Each key has scopes: `locate` users, `read` about cells and models, \
`operate` on cells and read their fingerprints."""

router = APIRouter(include_in_schema=False)


@router.get("/openapi.json")
def show_openapi(request: Request) -> Json:
    """In a worker thread: the examples need the store."""
    state = request.app.state
    return describe(request.app, state.examples(), state.scope_needed, state.settings.batch_limit)


def describe(app: FastAPI, examples: Examples, scope_needed: ScopeNeeded | None, batch_limit: int) -> Json:
    """The OpenAPI document of the app.

    FastAPI does not know which bodies the service answers just now, or which scope the middleware asks for
    (`scope_needed`, None where no key is required), or how many items a batch may have. Routes of rooms below
    `service.web` cannot list problems. The document names JSON alone: generators of clients know no msgpack.
    """
    document = deepcopy(app.openapi())
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", []):
                parameter["schema"] = _without_null(parameter["schema"])
            operation["responses"] = {**problem_responses(), **operation["responses"]}
            if found := examples.get(operation["operationId"]):
                content = operation["requestBody"]["content"][JSON.media_type]
                content["examples"] = {title: {"value": value} for title, value in found.items()}
            if scope_needed is not None:
                needed = scope_needed(method.upper(), path)
                operation["security"] = [] if needed is None else [{"key": [needed]}]
    document["components"]["schemas"]["BatchRequest"]["properties"]["items"]["maxItems"] = batch_limit
    if scope_needed is not None:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": _KEY}}
    return document


def _without_null(schema: Json) -> Json:
    """The schema of a parameter. FastAPI allows null in optional ones, but the query and headers cannot carry null."""
    match schema.get("anyOf"):
        case [dict(kind), {"type": "null"}]:
            return {name: value for name, value in schema.items() if name != "anyOf"} | kind
        case _:
            return schema


def operation_id(route: APIRoute) -> str:
    """The name of the endpoint in camelCase: what generated clients call their functions."""
    first, *rest = route.name.split("_")
    return first + "".join(word.capitalize() for word in rest)
