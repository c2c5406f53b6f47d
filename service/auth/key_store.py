"""The keys in force: those of a file, as it was when it was last whole."""

import asyncio
import hmac
import logging
import math
import os
import time
from pathlib import Path
from typing import NamedTuple

from service.auth.keys import KeyRecord, KeysUnreadable, Scope, digest_of, id_of, read_keys
from service.auth.rate_limit import TokenBucket
from service.errors import KeyMissing, KeyUnknown, RateExceeded, ScopeMissing

_log = logging.getLogger("fingerpost.keys")

_PERIOD_S = 1.0  # how long a revoked key may go on
_BEARER = b"bearer "
_NOBODY = bytes(32)  # compared with where an id is unknown, so that this takes as long


class Holder(NamedTuple):
    """Who has a key, as requests are judged by it."""

    record: KeyRecord
    digest: bytes
    scopes: frozenset[Scope]
    bucket: TokenBucket | None


class _Stamp(NamedTuple):
    """What changes when a file does."""

    modified: int
    inode: int
    size: int


class KeyStore:
    """Raises `KeysUnreadable` when there are no keys to begin with. For the event loop's thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._holders: dict[bytes, Holder] = {}
        self._stamp = _stamp(path)
        self._put(read_keys(path))

    def holder(self, authorization: bytes | None, needed: Scope) -> Holder:
        """Whose key the header `Authorization` brings, one of its tokens taken.

        Raises `KeyMissing`, `KeyUnknown`, `ScopeMissing` or `RateExceeded`.
        """
        if authorization is None:
            raise KeyMissing("a key is needed, as Authorization: Bearer KEY")
        if authorization[: len(_BEARER)].lower() != _BEARER:
            raise KeyUnknown("the key must come as Authorization: Bearer KEY")
        key = authorization[len(_BEARER) :].strip()
        holder = self._holders.get(id_of(key))
        same = hmac.compare_digest(digest_of(key), _NOBODY if holder is None else holder.digest)
        if holder is None or not same:
            raise KeyUnknown("the key is not, or no longer, known")
        if needed not in holder.scopes:
            raise ScopeMissing(f"the key has not the scope {needed!r}")
        if holder.bucket is not None and (wait := holder.bucket.take(time.monotonic())):
            raise RateExceeded(f"more than {holder.record.rate:g} users a second", math.ceil(wait))
        return holder

    async def follow(self) -> None:
        """Reads the file again whenever it has changed, for ever. While it is damaged the keys before stay in force."""
        while True:
            await asyncio.sleep(_PERIOD_S)
            try:
                stamp = await asyncio.to_thread(_stamp, self._path)
                if stamp == self._stamp:
                    continue
                self._stamp = stamp
                self._put(await asyncio.to_thread(read_keys, self._path))
            except KeysUnreadable as error:
                _log.error("the keys in force stay: %s", error)
            else:
                _log.info("%d keys in force", len(self._holders))

    def _put(self, records: list[KeyRecord]) -> None:
        """A key that stays as it was keeps its tokens."""
        before, now = self._holders, time.monotonic()
        holders = {}
        for record in records:
            held = before.get(record.id.encode())
            if held is None or held.record != record:
                bucket = None if record.rate is None else TokenBucket(record.rate, now)
                held = Holder(record, bytes.fromhex(record.sha256), frozenset(record.scopes), bucket)
            holders[record.id.encode()] = held
        self._holders = holders


def _stamp(path: Path) -> _Stamp | None:
    """None where there is no such file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return _Stamp(status.st_mtime_ns, status.st_ino, status.st_size)
