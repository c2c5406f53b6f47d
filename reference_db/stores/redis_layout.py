"""The keys and records of the store in Redis.

    fingerpost:{<cell_id>}:current                     number, digest and writer of the current version
    fingerpost:{<cell_id>}:manifests                   hash: number -> digest, line feed, manifest
    fingerpost:{<cell_id>}:segment:<digest>            each segment of any version
    fingerpost:{<cell_id>}:draft:<writer>:<digest>     a segment that is not published yet; expires
    fingerpost:{<cell_id>}:tombstone                   the cell was removed
    fingerpost:{<cell_id>}:truths                      hash: group and name of an amount -> what truths add up to
    fingerpost:{<cell_id>}:truths:counted              sorted set: the names of the truths counted last, by time
    fingerpost:cells                                   set: every cell that a writer has started to publish
    fingerpost:versions                                stream of cell and version number, about the last 10,000

The braces keep all keys of a cell on one node of a cluster.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from redis.exceptions import ResponseError

from reference_db.cell_id import CELL_ID_PATTERN
from reference_db.errors import CorruptManifest

CELLS = "fingerpost:cells"
NEWS = "fingerpost:versions"

_CELL_ID = re.compile(CELL_ID_PATTERN)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(rb"[1-9][0-9]{0,9}")
_POINTER = re.compile(rb"([0-9]+) ([0-9a-f]{64}) ([0-9a-f]{32})")


class Pointer(NamedTuple):
    """The current version of a cell, and the writer that published it."""

    number: int
    digest: str
    writer: str


def key(cell_id: str, name: str) -> str:
    return f"fingerpost:{{{cell_id}}}:{name}"


def is_cell_id(name: str) -> bool:
    """Whether a cell can have this name. Names come from URLs and from Redis."""
    return _CELL_ID.fullmatch(name) is not None


def is_digest(name: str) -> bool:
    return _DIGEST.fullmatch(name) is not None


def is_number(field: bytes) -> bool:
    return _NUMBER.fullmatch(field) is not None


def read_cell_id(name: bytes) -> str | None:
    """None for a name that no cell can have."""
    text = name.decode(errors="replace")
    return text if is_cell_id(text) else None


def read_cell_id_of_key(name: bytes) -> str | None:
    """The cell that a key belongs to; None for a key that no cell can have."""
    return read_cell_id(name.partition(b"{")[2].rpartition(b"}")[0])


def parse_pointer(cell_id: str, kept: bytes) -> Pointer:
    """Raises `CorruptManifest`."""
    found = _POINTER.fullmatch(kept)
    if found is None:
        raise CorruptManifest(f"cell {cell_id!r}: the pointer to the current version is damaged")
    number, digest, writer = found.groups()
    return Pointer(int(number), digest.decode(), writer.decode())


@contextmanager
def checked_type(cell_id: str) -> Iterator[None]:
    """Translates the error of Redis about a key of another type, which is damage to one cell and no outage."""
    try:
        yield
    except ResponseError as error:
        if not str(error).startswith("WRONGTYPE"):
            raise
        raise CorruptManifest(f"cell {cell_id!r}: a key in Redis has another type") from error
