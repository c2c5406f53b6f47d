"""Looks at a msgpack document without making its values: how many there are, and how its objects are nested."""

from typing import Any, NamedTuple

_FIXED = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8} | {
    0xD4: 2,
    0xD5: 3,
    0xD6: 5,
    0xD7: 9,
    0xD8: 17,
}
_SIZED = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_EXTENSIONS = frozenset((0xC7, 0xC8, 0xC9))  # one more byte, the type
_NESTED = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}  # bytes of the length, values an element


def has_more_values(body: bytes, most: int) -> bool:
    """Whether a msgpack document says that it holds more than `most` values, keys and containers included.

    A document that is cut or damaged may be counted wrongly. The decoder refuses it.
    """
    at, expected = 0, 1
    while expected and at < len(body):
        kind = body[at]
        at += 1
        expected -= 1
        most -= 1
        if kind < 0x80 or kind >= 0xE0:
            continue
        if kind < 0x90:
            expected += 2 * (kind & 0x0F)
        elif kind < 0xA0:
            expected += kind & 0x0F
        elif kind < 0xC0:
            at += kind & 0x1F
        elif kind in _FIXED:
            at += _FIXED[kind]
        elif kind in _SIZED:
            width = _SIZED[kind]
            at += width + int.from_bytes(body[at : at + width]) + (kind in _EXTENSIONS)
        elif kind in _NESTED:
            width, each = _NESTED[kind]
            expected += each * int.from_bytes(body[at : at + width])
            at += width
        if expected > most:
            return True
    return False


class Members(NamedTuple):
    """An object with all its members in order, even those whose name comes again."""

    pairs: list[tuple[Any, Any]]


def read_members(body: bytes) -> Any:
    """The structure of a valid document: `Members` for objects, lists for arrays, text for text, None for the rest.

    Names that are no text are bytes, as they are encoded.
    """
    return _read_member(body, 0)[0]


def _read_member(body: bytes, at: int) -> tuple[Any, int]:
    """The value at an offset, and the offset after it."""
    kind = body[at]
    at += 1
    if 0xA0 <= kind < 0xC0:
        return body[at : at + (kind & 0x1F)].decode(), at + (kind & 0x1F)
    if kind in _SIZED:
        width = _SIZED[kind]
        first = at + width + (kind in _EXTENSIONS)
        end = first + int.from_bytes(body[at : at + width])
        return (body[first:end].decode() if kind >= 0xD9 else None), end
    if kind in _NESTED:
        width, each = _NESTED[kind]
        count = int.from_bytes(body[at : at + width])
        at += width
    elif 0x80 <= kind < 0xA0:
        count, each = kind & 0x0F, 2 if kind < 0x90 else 1
    else:
        return None, at + _FIXED.get(kind, 0)
    values = []
    for place in range(count * each):
        first = at
        value, at = _read_member(body, at)
        is_name = each == 2 and place % 2 == 0
        values.append(body[first:at] if is_name and not isinstance(value, str) else value)
    return (Members(list(zip(values[::2], values[1::2], strict=True))) if each == 2 else values), at
