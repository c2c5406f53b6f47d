import tracemalloc

import msgspec
import pytest

from service.errors import BatchTooLarge, FieldIncorrect, MalformedBody, ServiceError
from service.locating.batch import parse_items
from service.web.media import JSON, MSGPACK, Format

SIZE = 2**22


def encoded(reads: Format, items: object) -> bytes:
    encode = msgspec.json.encode if reads is JSON else msgspec.msgpack.encode
    return encode({"items": items})


def packed(items: object) -> bytes:
    return msgspec.msgpack.encode({"items": items})


@pytest.mark.parametrize("reads", [JSON, MSGPACK])
@pytest.mark.parametrize("most", [1, 15, 16, 256, 70_000])
def test_as_many_as_there_may_be_and_one_more(reads: Format, most: int) -> None:
    assert len(parse_items(encoded(reads, [0] * most), reads, most)) == most
    with pytest.raises(BatchTooLarge):
        parse_items(encoded(reads, [0] * (most + 1)), reads, most)


@pytest.mark.parametrize(
    ("reads", "body"),
    [
        (JSON, b'{"items":[' + b"0," * (SIZE // 2) + b"0]}"),
        (MSGPACK, packed([0] * SIZE)),
        (MSGPACK, packed([])[:-1] + b"\xdd\xff\xff\xff\xff" + bytes(1000)),
        (MSGPACK, packed([])[:-1] + b"\x91" * SIZE),
        (JSON, b'{"items":' + b"[" * SIZE),
    ],
    ids=["json", "msgpack", "msgpack that lies", "msgpack nested", "json nested"],
)
def test_what_is_refused_takes_no_memory(reads: Format, body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises((BatchTooLarge, MalformedBody)):
            parse_items(body, reads, 256)
        assert tracemalloc.get_traced_memory()[1] < SIZE
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("reads", [JSON, MSGPACK])
@pytest.mark.parametrize("items", [None, 7, "text", {"a": 1}, []])
def test_what_is_no_array_of_items(reads: Format, items: object) -> None:
    with pytest.raises(FieldIncorrect):
        parse_items(encoded(reads, items), reads, 256)


def test_strings_full_of_commas_do_not_count() -> None:
    items = [{"requestId": "," * 128, "csi": {"shape": [1, 2]}}] * 256
    assert len(parse_items(encoded(JSON, items), JSON, 256)) == 256


@pytest.mark.parametrize("body", [b"", b"\x81", b"\xc0", b"\x81\xa5items"])
def test_what_ends_early(body: bytes) -> None:
    for reads in (JSON, MSGPACK):
        with pytest.raises(ServiceError):
            parse_items(body, reads, 256)


@pytest.mark.parametrize("items", [[0] * 100_000, [{"a": [1, 2, 3]}] * 40_000])
@pytest.mark.parametrize("reads", [JSON, MSGPACK])
def test_a_batch_of_far_too_many_items_is_too_large(reads: Format, items: list[object]) -> None:
    with pytest.raises(BatchTooLarge):
        parse_items(encoded(reads, items), reads, 256)


@pytest.mark.parametrize(
    ("reads", "item"),
    [
        (JSON, b'"\xff"'),
        (JSON, b"9" * 5000),
        (JSON, b"[" * 500 + b"]" * 500),
        (MSGPACK, b"\xa1\xff"),
        (MSGPACK, b"\xd7\xff" + b"\xff" * 8),
    ],
    ids=["not UTF-8", "too large a number", "too deep", "msgpack not UTF-8", "no msgpack timestamp"],
)
def test_an_item_that_cannot_be_parsed_spoils_no_other(reads: Format, item: bytes) -> None:
    body = b'{"items":[1,' + item + b",2]}" if reads is JSON else packed([])[:-1] + b"\x93\x01" + item + b"\x02"
    first, bad, last = parse_items(body, reads, 256)
    assert (first, last) == (1, 2)
    assert isinstance(bad, MalformedBody)
