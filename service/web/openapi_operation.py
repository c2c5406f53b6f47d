"""Operations as OpenAPI describes them."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from service.web.problems import KINDS, PROBLEM_JSON

Json = dict[str, Any]


def operation(
    name: str,
    summary: str,
    answer: str,
    body: str | None = None,
    examples: Json | None = None,
    parameters: Sequence[Json] = (),
) -> Json:
    """One that takes and gives JSON or msgpack; without a body, gives JSON. `answer` and `body` name schemas."""
    described: Json = {
        "operationId": name,
        "summary": summary,
        "responses": {
            "200": {"description": summary, "content": {"application/json": content(answer)}},
            **problems(),
        },
    }
    if parameters:
        described["parameters"] = list(parameters)
    if body is not None:
        named = {title: {"value": value} for title, value in (examples or {}).items()}
        described["responses"]["200"]["content"]["application/msgpack"] = content(answer)
        described["requestBody"] = {
            "required": True,
            "content": {
                "application/json": content(body) | {"examples": named},
                "application/msgpack": content(body),
            },
        }
    return described


def plain(name: str, summary: str, media_type: str) -> Json:
    answer = {"description": summary, "content": {media_type: {}}}
    return {"operationId": name, "summary": summary, "responses": {"200": answer, **problems()}}


def parameter(place: str, name: str, said: str, schema: Json, example: str | None = None) -> Json:
    described: Json = {"name": name, "in": place, "description": said, "schema": schema, "required": place == "path"}
    return described if example is None else described | {"example": example}


def content(name: str) -> Json:
    return {"schema": {"$ref": f"#/components/schemas/{name}"}}


def problems() -> Json:
    """Every cause is listed under its status class."""
    kinds: dict[str, list[str]] = {"4XX": [], "5XX": []}
    for status, cause in KINDS.values():
        kinds["5XX" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "4XX"].append(cause)
    return {
        family: {
            "description": "`cause` is one of: " + ", ".join(sorted(causes)) + ".",
            "content": {PROBLEM_JSON: content("Problem")},
        }
        for family, causes in kinds.items()
    }
