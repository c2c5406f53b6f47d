import pytest
from starlette.datastructures import Headers
from starlette.requests import Request

from service.errors import CellNotFound, FieldError, FieldIncorrect, UnknownField
from service.updates.change_request import ChangeRequest, read_change_request
from service.updates.publisher import Conditions


def order(query: str = "", cell_id: str = "c", **headers: str) -> ChangeRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    scope = {
        "type": "http",
        "method": "PUT",
        "path": f"/cells/{cell_id}",
        "query_string": query.encode(),
        "headers": Headers(named).raw,
        "path_params": {"cell_id": cell_id},
        "server": ("a", 80),
    }
    return read_change_request(Request(scope))


def test_nothing_said_means_no_conditions() -> None:
    assert order() == ChangeRequest("c", Conditions(), "", "", None, b"PUT /cells/c?\n", False)


def test_who_and_why() -> None:
    asked = order("author=J%C3%BCrgen&note=a+b&force=true")
    assert (asked.author, asked.note, asked.conditions.force) == ("Jürgen", "a b", True)


@pytest.mark.parametrize(
    ("tag", "version"),
    [('"3-ab12"', "3-ab12"), ("3-ab12", "3-ab12"), (" * ", "*"), ('W/"3-ab12"', 'W/"3-ab12"'), ('""', "")],
)
def test_a_version_may_be_quoted_and_a_weak_one_stays_weak(tag: str, version: str) -> None:
    assert order(If_Match=tag).conditions.if_match == version


def test_that_there_be_none_yet() -> None:
    assert order(If_None_Match="*").conditions.if_none_match


@pytest.mark.parametrize(
    ("query", "headers", "kind", "param"),
    [
        ("author=" + "x" * 257, {}, FieldIncorrect, "query author"),
        ("note=" + "x" * 4097, {}, FieldIncorrect, "query note"),
        ("note=%1b%5B2J", {}, FieldIncorrect, "query note"),
        ("force=yes", {}, FieldIncorrect, "query force"),
        ("force=1&force=0", {}, FieldIncorrect, "query force"),
        ("Force=1", {}, UnknownField, "query Force"),
        ("", {"If_Match": '"1", "2"'}, FieldIncorrect, "header If-Match"),
        ("", {"If_None_Match": '"1"'}, FieldIncorrect, "header If-None-Match"),
        ("", {"Idempotency_Key": ""}, FieldIncorrect, "header Idempotency-Key"),
        ("", {"Idempotency_Key": "x" * 257}, FieldIncorrect, "header Idempotency-Key"),
        ("", {"Idempotency_Key": "a\tb"}, FieldIncorrect, "header Idempotency-Key"),
    ],
)
def test_what_is_not_understood_is_refused(
    query: str, headers: dict[str, str], kind: type[FieldError], param: str
) -> None:
    with pytest.raises(kind) as caught:
        order(query, **headers)
    assert caught.value.invalid_params[0].param == param


def test_what_can_be_no_cell_is_not_there() -> None:
    with pytest.raises(CellNotFound):
        order(cell_id="..")
