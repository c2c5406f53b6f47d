"""API keys and the file that holds their hashes. The keys themselves are stored nowhere."""

import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from reference_db.durable_file import make_directory, write_durably

Scope = Literal["locate", "operate", "read"]

# A key is fp_ID_SECRET. The secret has 256 random bits: it cannot be guessed, so a slow hash would add no safety.
_PREFIX = "fp_"
_ID_BYTES, _SECRET_BYTES = 6, 32
_ID = slice(len(_PREFIX), len(_PREFIX) + 2 * _ID_BYTES)


class KeysUnreadable(Exception):
    """The keys file is missing or damaged. The text is fit to show to a person."""


class InvalidKey(ValueError):
    """The name, scopes or rate of a new key are invalid. The text is fit to show to a person."""


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class KeyRecord(_Stored):
    """What the file holds of a key: its public id and the sha256 of the whole key.

    `rate`: requests a second, each user of a batch counted as one; None: no limit.
    """

    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    name: str = Field(min_length=1, max_length=64)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: list[Scope] = Field(min_length=1)
    rate: Annotated[float, Field(gt=0, le=1e9)] | None = None
    created_at: AwareDatetime


class KeyFile(_Stored):
    keys: list[KeyRecord]


def make_key(name: str, scopes: Sequence[str], rate: float | None, now: datetime) -> tuple[str, KeyRecord]:
    """Returns a new key, which cannot be shown again, and its record. Raises `InvalidKey`."""
    key_id = secrets.token_hex(_ID_BYTES)
    key = f"{_PREFIX}{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    record = {"id": key_id, "name": name, "sha256": digest_of(key.encode()).hex(), "scopes": list(scopes), "rate": rate}
    try:
        return key, KeyRecord.model_validate(record | {"created_at": now})
    except ValidationError as error:
        fault = error.errors()[0]
        raise InvalidKey(f"{fault['loc'][0]} {fault['input']!r}: {fault['msg']}") from error


def id_of(key: bytes) -> bytes:
    """Returns the id in a key; of a malformed key some other bytes, or none."""
    return key[_ID]


def digest_of(key: bytes) -> bytes:
    """Returns the sha256 of a key."""
    return sha256(key).digest()


def read_keys(path: Path) -> list[KeyRecord]:
    """Reads all records of a keys file. Raises `KeysUnreadable`."""
    try:
        keys = KeyFile.model_validate_json(path.read_bytes()).keys
    except OSError as error:
        raise KeysUnreadable(f"{path}: {error.strerror or error}") from error
    except ValidationError as error:
        # The message goes to logs: without the input, which holds hashes.
        fault = error.errors(include_input=False)[0]
        raise KeysUnreadable(f"{path}: {'.'.join(map(str, fault['loc']))} {fault['msg']}") from error
    if len({key.id for key in keys}) < len(keys):
        raise KeysUnreadable(f"{path}: two keys have the same id")
    return keys


@contextmanager
def edit_keys(path: Path) -> Iterator[list[KeyRecord]]:
    """Yields the records of a keys file, none when the file does not exist, and writes the edited list at the end.

    Other editors of the file wait meanwhile. Raises `KeysUnreadable`, and `OSError` when the file cannot be written.
    """
    path = path.resolve()  # replaces the target of a symbolic link, not the link
    make_directory(path.parent)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        keys = read_keys(path) if path.exists() else []
        yield keys
        write_durably(path, KeyFile(keys=keys).model_dump_json(indent=2).encode() + b"\n")
    finally:
        os.close(folder)
