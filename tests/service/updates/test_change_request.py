"""Conditions, author, note and idempotency key of a request to change a cell."""

from collections.abc import AsyncIterator
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Response

from service.updates.change_request import ChangeRequest, read_change_request
from service.updates.publisher import Conditions
from service.web.problems import EXCEPTION_HANDLERS
from service.web.routes import ApiRoute
from tests.service.updates.wire import assert_problem


class Service:
    """A route that reads change requests, and the last one that it read."""

    def __init__(self) -> None:
        self.read: ChangeRequest | None = None
        router = APIRouter(route_class=ApiRoute)

        @router.put("/cells/{cellId}")
        def put_cell(change: Annotated[ChangeRequest, Depends(read_change_request)]) -> Response:
            self.read = change
            return Response()

        app = FastAPI(exception_handlers=EXCEPTION_HANDLERS)
        app.include_router(router)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")

    async def order(self, query: str = "", **headers: str) -> ChangeRequest:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response = await self.client.put(f"/cells/c?{query}", headers=named)
        assert response.status_code == 200, response.text
        assert self.read is not None
        return self.read


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    async with service.client:
        yield service


@pytest.mark.anyio
async def test_a_request_without_parameters_has_no_conditions(service: Service) -> None:
    assert (await service.order()) == ChangeRequest("c", Conditions(), "", "", None, b"PUT /cells/c?\n")


@pytest.mark.anyio
async def test_author_note_and_force_are_read(service: Service) -> None:
    change = await service.order("author=J%C3%BCrgen&note=a+b&force=true")
    assert (change.author, change.note, change.conditions.force) == ("Jürgen", "a b", True)
    assert change.head == b"PUT /cells/c?author=J%C3%BCrgen&note=a+b&force=true\n"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("tag", "version"),
    [('"3-ab12"', "3-ab12"), ("3-ab12", "3-ab12"), (" * ", "*"), ('W/"3-ab12"', 'W/"3-ab12"'), ('""', "")],
)
async def test_a_version_may_be_quoted_and_a_weak_one_stays_weak(service: Service, tag: str, version: str) -> None:
    assert (await service.order(If_Match=tag)).conditions.if_match == version


@pytest.mark.anyio
async def test_if_none_match_asks_that_the_cell_does_not_exist(service: Service) -> None:
    assert (await service.order(If_None_Match="*")).conditions.if_none_match


@pytest.mark.anyio
async def test_the_key_is_read(service: Service) -> None:
    assert (await service.order(Idempotency_Key="a b")).key == "a b"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("query", "headers", "cause", "param"),
    [
        ("author=" + "x" * 257, {}, "MANDATORY_IE_INCORRECT", "query author"),
        ("note=" + "x" * 4097, {}, "MANDATORY_IE_INCORRECT", "query note"),
        ("note=%1b%5B2J", {}, "MANDATORY_IE_INCORRECT", "query note"),
        ("force=yes", {}, "MANDATORY_IE_INCORRECT", "query force"),
        ("force=1&force=0", {}, "MANDATORY_IE_INCORRECT", "query force"),
        ("Force=1", {}, "UNKNOWN_FIELD", "query Force"),
        ("", {"If-Match": '"1", "2"'}, "MANDATORY_IE_INCORRECT", "header If-Match"),
        ("", {"If-None-Match": '"1"'}, "MANDATORY_IE_INCORRECT", "header If-None-Match"),
        ("", {"Idempotency-Key": ""}, "MANDATORY_IE_INCORRECT", "header Idempotency-Key"),
        ("", {"Idempotency-Key": "x" * 257}, "MANDATORY_IE_INCORRECT", "header Idempotency-Key"),
        ("", {"Idempotency-Key": "a\tb"}, "MANDATORY_IE_INCORRECT", "header Idempotency-Key"),
    ],
)
async def test_parameters_that_are_wrong_are_refused(
    service: Service, query: str, headers: dict[str, str], cause: str, param: str
) -> None:
    assert_problem(await service.client.put(f"/cells/c?{query}", headers=headers), 400, cause, param)


@pytest.mark.anyio
@pytest.mark.parametrize("tags", [("1", "2"), ("*", "*")])
@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
async def test_a_condition_that_comes_twice_is_refused(service: Service, header: str, tags: tuple[str, str]) -> None:
    response = await service.client.put("/cells/c", headers=[(header, tag) for tag in tags])
    assert_problem(response, 400, "MANDATORY_IE_INCORRECT", f"header {header}")


@pytest.mark.anyio
async def test_what_cannot_be_the_name_of_a_cell_is_not_found(service: Service) -> None:
    assert_problem(await service.client.put("/cells/%2E%2E."), 404, "CELL_NOT_FOUND", "/cellId")
