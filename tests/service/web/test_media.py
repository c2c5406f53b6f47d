import asyncio
from collections.abc import Iterable

import pytest
from starlette.requests import Request
from starlette.types import Message

from service import errors
from service.web.media import JSON, MSGPACK, formats, read_body

Headers = list[tuple[bytes, bytes]]


def make_request(chunks: Iterable[bytes] = (), headers: Headers | None = None, *, ends: bool = True) -> Request:
    """A request whose client sends these chunks and then hangs up, or goes on for ever without a word."""
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    if ends:
        messages[-1]["more_body"] = False

    async def receive() -> Message:
        if messages:
            return messages.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    return Request({"type": "http", "headers": headers or []}, receive)


@pytest.mark.anyio
@pytest.mark.parametrize("chunks", [[b"whole"], [b"who", b"le"], [b"whole", b""]])
async def test_a_body_is_the_same_in_one_piece_or_in_many(chunks: list[bytes]) -> None:
    assert await read_body(make_request(chunks), limit=5, timeout_s=10) == b"whole"


@pytest.mark.anyio
async def test_a_body_in_one_piece_is_not_copied() -> None:
    piece = bytes(1000)
    assert await read_body(make_request([piece]), limit=1000, timeout_s=10) is piece


@pytest.mark.anyio
@pytest.mark.parametrize("ends", [True, False])
async def test_a_body_over_the_limit_is_refused_whether_it_ends_or_not(ends: bool) -> None:
    with pytest.raises(errors.BodyTooLarge):
        await read_body(make_request([b"who", b"le"], ends=ends), limit=4, timeout_s=10)


@pytest.mark.anyio
@pytest.mark.parametrize("chunks", [[], [b"who"]])
async def test_a_client_that_stops_sending_is_not_waited_for(chunks: list[bytes]) -> None:
    with pytest.raises(errors.BodyTooSlow):
        await read_body(make_request(chunks, ends=False), limit=5, timeout_s=0.01)


@pytest.mark.anyio
async def test_a_client_that_hangs_up_has_sent_no_whole_body() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(errors.MalformedBody):
        await read_body(Request({"type": "http", "headers": []}, receive), limit=5, timeout_s=10)


@pytest.mark.parametrize(
    ("headers", "reads", "writes"),
    [
        ([], JSON, JSON),
        ([(b"content-type", b"application/msgpack")], MSGPACK, MSGPACK),
        ([(b"content-type", b"Application/X-MsgPack; a=b")], MSGPACK, MSGPACK),
        ([(b"content-type", b"application/msgpack"), (b"accept", b"text/html, application/json")], MSGPACK, JSON),
        ([(b"accept", b"application/msgpack;q=0, */*")], JSON, JSON),
        ([(b"accept", b"application/msgpack"), (b"accept", b"text/html")], JSON, MSGPACK),
    ],
)
def test_formats_are_those_of_the_first_header_of_each_name(headers: Headers, reads: object, writes: object) -> None:
    assert formats(make_request([b""], headers)) == (reads, writes)
