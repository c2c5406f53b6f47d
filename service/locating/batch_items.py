"""The items of a batch, still to be read one by one."""

import msgspec

from fingerpost.wire import RawBatch, RawItems
from service.errors import BatchTooLarge
from service.web.media import MSGPACK, Format

_COMMAS = 256  # a user of JSON has fewer, whatever his requestId is


def read_items(body: bytes, reads: Format, most: int) -> list[msgspec.Raw]:
    """Raises `BatchTooLarge` for more than `most`, and what `Format.read` raises.

    Each item takes far more memory than the byte that it may be of: many too many are refused before they are told
    apart.
    """
    if reads is MSGPACK:
        length = _length(memoryview(reads.read(body, RawItems).items))
        if length > most:
            raise BatchTooLarge("/items", f"{length} items, {most} at most")
    elif body.count(b",") > _COMMAS * most:
        raise BatchTooLarge("/items", f"more than {most} items")
    items = reads.read(body, RawBatch).items
    if len(items) > most:
        raise BatchTooLarge("/items", f"{len(items)} items, {most} at most")
    return items


def _length(packed: memoryview) -> int:
    """How many elements a msgpack array says that it has; 0 for what is none."""
    kind = packed[0]
    if kind & 0xF0 == 0x90:
        return kind & 0x0F
    if kind in (0xDC, 0xDD):
        return int.from_bytes(packed[1 : 3 if kind == 0xDC else 5])
    return 0
