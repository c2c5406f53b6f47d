"""Names that an object of a body gives twice."""

import json
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service import errors
from service.web.media import JSON, MSGPACK

_NAMES = st.sampled_from(["a", "b", "a:b", "x" * 40, ""])
_DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=20,
)
FLOAT = b"\xca" + struct.pack(">f", 0.1)  # longer as msgspec encodes it


@settings(max_examples=200, deadline=None, derandomize=True)
@given(document=_DOCUMENTS, spaces=st.booleans(), escapes=st.booleans())
def test_a_document_whose_names_differ_is_read(document: Any, spaces: bool, escapes: bool) -> None:
    separators = (" , ", " : ") if spaces else (",", ":")
    body = json.dumps(document, separators=separators, ensure_ascii=escapes).replace(
        ":b", "\\u003ab" if escapes else ":b"
    )
    assert JSON.parsed(body.encode()) == document
    assert MSGPACK.parsed(msgspec.msgpack.encode(document)) == document


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ('{"a":1,"a":1}', "/a"),
        ('{"a":1,"b":2,"\\u0061":3}', "/a"),
        ('{"csi":{"data":"x","data":"y"}}', "/csi/data"),
        ('{"items":[{"a":1},{"b":[[{"c":1,"c":2}]]}]}', "/items/1/b/0/0/c"),
        ('{"a":{"b":1,"b":2},"a":0}', "/a"),
        ('{"note":"at 12:30:00","a":1,"a":2}', "/a"),
        ('{"note":"at 12\\u003a30","a":1,"a":2}', "/a"),  # an escaped colon for the one that is dropped
        ('{"big":%s,"a":1,"a":2}' % ("9" * 4000), "/a"),
        ('{"LONG":1,"LONG":2}'.replace("LONG", "n" * 5000), "/" + "n" * 100),
    ],
)
def test_the_first_name_of_json_that_comes_twice_is_named(body: str, pointer: str) -> None:
    with pytest.raises(errors.FieldIncorrect, match="comes twice") as refused:
        JSON.parsed(body.encode())
    assert refused.value.invalid_params[0].param == pointer


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"\x82\xa1a\x01\xa1a\x02", "/a"),
        (b"\x82\xa1a\x01\xd9\x01a\x02", "/a"),  # the second name is encoded in another way
        (b"\xde\x00\x02\xa1a" + FLOAT + b"\xa1a" + FLOAT, "/a"),
        (b"\x81\xa5items\x92\x81\xa1a\xc4\x02\x00\x01\x82\xa1b\xc0\xa1b\xc7\x01\x05x", "/items/1/b"),
        (b"\x83\xa1b" + FLOAT + b"\xa2cc\x01\xa2cc\x02", "/cc"),  # the float gets the 4 bytes of the dropped member
        (b"\x82\x91\x01\x01\x91\x01\x02", "/b'\\x91\\x01'"),
        (b"\xdf\x00\x00\x00\x02\xa1a\xdd\x00\x00\x00\x01\xcb" + bytes(8) + b"\xa1a\xd6\x05abcd", "/a"),
    ],
)
def test_the_first_name_of_msgpack_that_comes_twice_is_named(body: bytes, pointer: str) -> None:
    with pytest.raises(errors.FieldIncorrect, match="comes twice") as refused:
        MSGPACK.parsed(body)
    assert refused.value.invalid_params[0].param == pointer


@pytest.mark.parametrize("body", [b"\x82\xa1a" + FLOAT + b"\xa1b" + FLOAT, b"\xde\x00\x01\xa1a\xcf" + bytes(8)])
def test_msgpack_that_is_longer_than_necessary_is_read(body: bytes) -> None:
    assert set(MSGPACK.parsed(body)) <= {"a", "b"}
