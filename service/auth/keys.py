"""API keys: who may ask for what, and how often. A file keeps their hashes; the keys themselves nobody keeps."""

import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from reference_db.durable_file import make_directory, write_durably

Scope = Literal["locate", "operate", "read"]

# A key is fp_ID_SECRET. The secret has 256 random bits: nobody guesses it, so that to hash it slowly would win nothing.
_PREFIX = "fp_"
_ID_BYTES, _SECRET_BYTES = 6, 32
_ID = slice(len(_PREFIX), len(_PREFIX) + 2 * _ID_BYTES)


class KeysUnreadable(Exception):
    """A file of keys is not there or damaged; the text is fit for a person."""


class KeyRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is kept of a key: its public id, and the sha256 of all of it. `rate`: users a second, None: any number."""

    id: Annotated[str, Meta(pattern=r"^[0-9a-f]{12}$")]
    name: Annotated[str, Meta(min_length=1, max_length=64)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    scopes: Annotated[list[Scope], Meta(min_length=1)]
    rate: Annotated[float, Meta(gt=0, le=1e9)] | None = None
    created_at: Annotated[datetime, Meta(tz=True)]


class KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    keys: list[KeyRecord]


def make_key(name: str, scopes: Sequence[Scope], rate: float | None, now: datetime) -> tuple[str, KeyRecord]:
    """A new key, to be told once, and what is kept of it."""
    key_id = secrets.token_hex(_ID_BYTES)
    key = f"{_PREFIX}{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    digest = digest_of(key.encode()).hex()
    return key, KeyRecord(id=key_id, name=name, sha256=digest, scopes=list(scopes), rate=rate, created_at=now)


def id_of(key: bytes) -> bytes:
    """The part of a key by which its record is found; anything, of what is no key."""
    return key[_ID]


def digest_of(key: bytes) -> bytes:
    return sha256(key).digest()


def read_keys(path: Path) -> list[KeyRecord]:
    """Raises `KeysUnreadable`."""
    try:
        keys = msgspec.json.decode(path.read_bytes(), type=KeyFile).keys
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise KeysUnreadable(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if len({key.id for key in keys}) < len(keys):
        raise KeysUnreadable(f"{path}: an id comes twice")
    return keys


@contextmanager
def changing(path: Path) -> Iterator[list[KeyRecord]]:
    """The keys of a file, none where it is not there yet; what is done to the list is written at the end, whole.

    Whoever else changes them waits. Raises `KeysUnreadable`, and `OSError` where they cannot be written.
    """
    path = path.resolve()  # what a link leads to is replaced, not the link
    make_directory(path.parent)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        keys = read_keys(path) if path.exists() else []
        yield keys
        content = msgspec.json.format(msgspec.json.encode(KeyFile(keys=keys)), indent=2)
        write_durably(path, content + b"\n")
    finally:
        os.close(folder)
