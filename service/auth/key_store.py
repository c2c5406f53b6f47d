"""The API keys in force: scopes, rate limits, and the file that they are read from."""

import hmac
import logging
import math
import os
import time
from pathlib import Path
from typing import NamedTuple

from service.auth.keys import KeyRecord, KeysUnreadable, Scope, digest_of, id_of, read_keys
from service.background import BlockingCalls, JobFailed
from service.errors import KeyMissing, KeyUnknown, RateExceeded, ScopeMissing

_log = logging.getLogger("fingerpost.keys")

PERIOD_S = 1.0  # a revoked key works for at most this long
UNSAFE_AFTER_S = 60.0  # without a reading; revoked keys may still be in force
READING_S = 10.0  # a file system that takes longer does not answer
_BEARER = b"bearer "
_NO_DIGEST = bytes(32)  # compared for an unknown id too, so that the time taken tells nothing about ids


class TokenBucket:
    """Rate limit of a key: `rate` tokens a second, at most one second's worth but at least one. A user costs a token.

    A batch may overdraw the bucket; the next request then waits longer. Times are those of `time.monotonic`.
    """

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._most = max(rate, 1.0)
        self._tokens = self._most
        self._at = now

    def take(self, now: float) -> float:
        """Takes a token and returns 0; when there is none, returns the seconds until there is one."""
        self._tokens = min(self._most, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1.0:
            return (1.0 - self._tokens) / self._rate
        self._tokens -= 1.0
        return 0.0

    def charge(self, tokens: int) -> None:
        """Takes more tokens, even when the bucket holds fewer."""
        self._tokens -= tokens


class KeyHolder(NamedTuple):
    """A key in force, as requests are checked against it."""

    record: KeyRecord
    digest: bytes
    scopes: frozenset[Scope]
    bucket: TokenBucket | None


class _Stamp(NamedTuple):
    """Changes whenever the file is replaced or written."""

    modified: int
    changed: int  # also where a tool restores the time of modification
    inode: int
    size: int


class KeyStore:
    """Raises `KeysUnreadable` when the file is missing or damaged at the start. For the event loop's thread."""

    def __init__(self, path: Path) -> None:
        self.used: dict[str, int] = {}  # Unix seconds of the last use at this replica, by the key's id
        self._path = path
        self._holders: dict[bytes, KeyHolder] = {}
        self._asking = BlockingCalls("keys-changed")
        self._reading = BlockingCalls("keys")
        self._stamp = self._begun = _read_stamp(path)
        self._replace(read_keys(path))

    def authorize(self, authorization: bytes | None, needed: Scope) -> KeyHolder:
        """Checks the value of an Authorization header and takes one token; returns the holder of its key.

        Raises `KeyMissing`, `KeyUnknown`, `ScopeMissing` or `RateExceeded`.
        """
        if authorization is None:
            raise KeyMissing("an API key is required: send Authorization: Bearer KEY")
        if authorization[: len(_BEARER)].lower() != _BEARER:
            raise KeyUnknown("the Authorization header must be: Bearer KEY")
        key = authorization[len(_BEARER) :].strip()
        holder = self._holders.get(id_of(key))
        same = hmac.compare_digest(digest_of(key), _NO_DIGEST if holder is None else holder.digest)
        if holder is None or not same:
            raise KeyUnknown("this API key is unknown or has been revoked")
        self.used[holder.record.id] = int(time.time())
        if needed not in holder.scopes:
            raise ScopeMissing(f'this key lacks the scope "{needed}"')
        if holder.bucket is not None and (wait := holder.bucket.take(time.monotonic())):
            raise RateExceeded(f"this key allows {holder.record.rate:g} users a second", math.ceil(wait))
        return holder

    def records(self) -> list[KeyRecord]:
        """The keys in force, in the order of the file."""
        return [holder.record for holder in self._holders.values()]

    async def follow(self) -> None:
        """Reads the file again if it has changed. Raises `JobFailed` where it cannot: the last keys stay in force."""
        try:
            stamp = await self._asking.run(_read_stamp, self._path)
            if stamp == self._stamp:
                return
            if stamp != self._begun:  # the reading of another file may hang for ever: a pipe, a mount that is gone
                self._reading, self._begun = BlockingCalls("keys"), stamp
            self._replace(await self._reading.run(read_keys, self._path))
        except KeysUnreadable as error:
            raise JobFailed(f"cannot read the keys file, the last keys stay in force: {error}") from error
        self._stamp = stamp
        _log.info("%d keys in force", len(self._holders))

    def _replace(self, records: list[KeyRecord]) -> None:
        """Puts records into force; an unchanged key keeps its tokens."""
        before, now = self._holders, time.monotonic()
        holders = {}
        for record in records:
            holder = before.get(record.id.encode())
            if holder is None or holder.record != record:
                bucket = None if record.rate is None else TokenBucket(record.rate, now)
                holder = KeyHolder(record, bytes.fromhex(record.sha256), frozenset(record.scopes), bucket)
            holders[record.id.encode()] = holder
        self._holders = holders


def _read_stamp(path: Path) -> _Stamp | None:
    """None when the file does not exist."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return _Stamp(status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size)
