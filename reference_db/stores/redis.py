"""A store in Redis, single or a cluster, that any number of replicas share.

    fingerpost:{<cell_id>}:current                     number, digest and writer of the current version
    fingerpost:{<cell_id>}:manifests                   hash: number -> digest, line feed, manifest
    fingerpost:{<cell_id>}:segment:<digest>            each segment of any version
    fingerpost:{<cell_id>}:draft:<writer>:<digest>     a segment not yet published; expires
    fingerpost:cells                                   set: every cell that somebody has begun to publish
    fingerpost:versions                                stream of cell and number, about the last 10,000

The braces keep what belongs to a cell on one node of a cluster. A version comes to be by one script, which turns the
drafts into segments and moves the pointer, or does nothing. What a killed writer leaves are drafts, and those expire.

Nothing but drafts may be evicted (`maxmemory-policy` noeviction or volatile-*), and what outlives a crash of Redis is
what `appendfsync` promises.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple, cast
from uuid import uuid4

from reference_db.cell_id import CELL_ID_PATTERN
from reference_db.errors import (
    CorruptManifest,
    MissingSegment,
    StoreFull,
    StoreUnavailable,
    UnknownVersion,
    VersionConflict,
)
from reference_db.manifest import Manifest
from reference_db.segment import digest_of
from reference_db.stores.redis_client import Client, RedisClient
from reference_db.stores.store import Buffer

_CELLS = "fingerpost:cells"
_NEWS = "fingerpost:versions"
_MOST_NEWS = 10_000
_CELL_ID = re.compile(CELL_ID_PATTERN)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_POINTER = re.compile(rb"([0-9]+) ([0-9a-f]{64}) ([0-9a-f]{32})")
_SEGMENT_TIMEOUT_S = 30.0
_LONGEST_WAIT_S = 10.0  # for news: well below that timeout

# KEYS: pointer, manifests, the drafts, the places of the drafts in the same order, the segments that should be there.
# ARGV: the digest expected ('': none), number, digest, writer, how many drafts, digest and manifest.
# The first command that writes is one that Redis refuses when its memory is full: then nothing has been done yet.
_PUBLISH = """
local pointer = redis.call('GET', KEYS[1])
local digest, writer = '', ''
if pointer then digest, writer = string.match(pointer, '^%d+ (%x+) (%x+)$') end
if writer == ARGV[4] then return {'published', ''} end
if digest ~= ARGV[1] then return {'conflict', digest or ''} end
local drafts = tonumber(ARGV[5])
for i = 3, #KEYS do
    local is_place = i > 2 + drafts and i <= 2 + 2 * drafts
    if not is_place and redis.call('EXISTS', KEYS[i]) == 0 then return {'missing', KEYS[i]} end
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[6])
for i = 3, 2 + drafts do
    redis.call('PERSIST', KEYS[i])
    redis.call('RENAME', KEYS[i], KEYS[i + drafts])
end
redis.call('SET', KEYS[1], ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4])
return {'published', ''}
"""


class _Pointer(NamedTuple):
    number: int
    digest: str
    writer: str


class RedisStore:
    """A `Store` and its `News`; `url` as for `RedisClient`.

    Pointers and manifests are waited for at most `timeout_s` (a segment 30 s). A publish that takes longer may or may
    not have happened: it is looked at once more, and what is still unknown then is `StoreUnavailable`; such a version
    may yet appear. Segments whose writer died are gone after `draft_life_s`.
    """

    def __init__(self, url: str, *, timeout_s: float = 2.0, draft_life_s: float = 3600.0) -> None:
        self._redis = RedisClient(url, timeout_s)
        self._patient = RedisClient(url, max(timeout_s, _SEGMENT_TIMEOUT_S))
        self._draft_life_ms = round(draft_life_s * 1000)
        self._heard: str | None = None

    def cells(self) -> list[str]:
        with self._redis.connected() as client:
            begun = sorted(name.decode() for name in cast(set[bytes], client.smembers(_CELLS)))
            with client.pipeline(transaction=False) as pipeline:
                for cell_id in begun:
                    pipeline.exists(_key(cell_id, "current"))
                published = pipeline.execute()
        return [cell_id for cell_id, there in zip(begun, published, strict=True) if there]

    def current(self, cell_id: str) -> Manifest | None:
        pointer = self._pointer(cell_id)
        if pointer is None:
            return None
        try:
            manifest = self.manifest(cell_id, pointer.number)
        except UnknownVersion as error:
            raise CorruptManifest(f"cell {cell_id!r}: version {pointer.number} has lost its manifest") from error
        if manifest.digest != pointer.digest:
            raise CorruptManifest(f"cell {cell_id!r}: version {pointer.number} is not the one that was published")
        return manifest

    def newest(self, cell_id: str) -> int:
        pointer = self._pointer(cell_id)
        return 0 if pointer is None else pointer.number

    def manifest(self, cell_id: str, number: int) -> Manifest:
        if not _CELL_ID.fullmatch(cell_id):
            raise UnknownVersion(cell_id, number)
        with self._redis.connected() as client:
            kept = cast(bytes | None, client.hget(_key(cell_id, "manifests"), str(number)))
        if kept is None:
            raise UnknownVersion(cell_id, number)
        digest, _, data = kept.partition(b"\n")
        manifest = Manifest.from_bytes(data, digest.decode(errors="replace"))
        if (manifest.cell.cell_id, manifest.number) != (cell_id, number):
            raise CorruptManifest(f"cell {cell_id!r}: version {number} is another one's")
        return manifest

    def numbers(self, cell_id: str) -> list[int]:
        if not _CELL_ID.fullmatch(cell_id):
            return []
        with self._redis.connected() as client:
            return sorted(map(int, cast(list[bytes], client.hkeys(_key(cell_id, "manifests")))))

    def publish(self, manifest: Manifest, segments: Sequence[bytes], expected: str | None) -> None:
        cell_id = manifest.cell.cell_id
        pointer = self._pointer(cell_id)  # asked before much is sent for nothing
        digest, number = (None, 0) if pointer is None else (pointer.digest, pointer.number)
        if digest != expected:
            raise VersionConflict(cell_id, expected, digest)
        if manifest.number != number + 1:
            raise ValueError(f"cell {cell_id!r}: version {manifest.number} cannot follow version {number}")
        writer = uuid4().hex
        given = {digest_of(data): data for data in segments}
        listed = dict.fromkeys(segment.digest for segment in manifest.segments)
        drafts = {_key(cell_id, f"draft:{writer}:{name}"): name for name in listed if name in given}
        kept = {_key(cell_id, f"segment:{name}"): name for name in listed if name not in given}
        try:
            with self._patient.connected() as client:
                for key, name in drafts.items():
                    client.set(key, given[name], px=self._draft_life_ms)
            outcome, about = self._publish(manifest, drafts, list(kept), expected, writer)
        except StoreFull:  # Redis has refused it: what is there only takes room
            self._forget(drafts)
            raise
        except StoreUnavailable:
            if self._pointer(cell_id, writer) is None:
                raise
            outcome, about = "published", ""
        if outcome == "published":
            self._tell(manifest)
            return
        self._forget(drafts)
        if outcome == "conflict":
            raise VersionConflict(cell_id, expected, about or None)
        if about in kept:
            raise MissingSegment(kept[about])
        raise StoreUnavailable(f"Redis has dropped segments of cell {cell_id!r} before they could be published")

    def get_segment(self, cell_id: str, digest: str) -> Buffer:
        if not (_CELL_ID.fullmatch(cell_id) and _DIGEST.fullmatch(digest)):
            raise MissingSegment(digest)
        with self._patient.connected() as client:
            data = cast(bytes | None, client.get(_key(cell_id, f"segment:{digest}")))
        if data is None:
            raise MissingSegment(digest)
        return data

    def changed(self, timeout_s: float) -> set[str]:
        with self._patient.connected() as client:
            if self._heard is None:
                self._heard = _last_news(client)
            wait_ms = int(min(timeout_s, _LONGEST_WAIT_S) * 1000) or None  # to Redis 0 is for ever
            streams = cast(list[Any], client.xread({_NEWS: self._heard}, block=wait_ms))
            news = [message for _, messages in streams for message in messages]
            if news:
                self._heard = news[-1][0].decode()
            elif _order(_last_news(client)) < _order(self._heard):
                self._heard = "0-0"  # a new stream, by a clock that is behind the old one's
        return {fields[b"cell"].decode() for _, fields in news}

    def close(self) -> None:
        self._redis.close()
        self._patient.close()

    def _pointer(self, cell_id: str, writer: str | None = None) -> _Pointer | None:
        """Which version is current; with `writer`, only if it is this one's."""
        if not _CELL_ID.fullmatch(cell_id):
            return None
        with self._redis.connected() as client:
            kept = cast(bytes | None, client.get(_key(cell_id, "current")))
        if kept is None:
            return None
        found = _POINTER.fullmatch(kept)
        if found is None:
            raise CorruptManifest(f"cell {cell_id!r}: the pointer to its current version is damaged")
        number, digest, author = found.groups()
        pointer = _Pointer(int(number), digest.decode(), author.decode())
        return pointer if writer in (None, pointer.writer) else None

    def _publish(
        self, manifest: Manifest, drafts: dict[str, str], kept: list[str], expected: str | None, writer: str
    ) -> tuple[str, str]:
        """Runs the script: what came of it, and the digest or key that this is about."""
        cell_id, number, digest = manifest.cell.cell_id, str(manifest.number), manifest.digest
        places = [_key(cell_id, f"segment:{name}") for name in drafts.values()]
        keys = [_key(cell_id, "current"), _key(cell_id, "manifests"), *drafts, *places, *kept]
        record = digest.encode() + b"\n" + manifest.to_bytes()
        with self._redis.connected() as client:
            client.sadd(_CELLS, cell_id)
            script = client.register_script(_PUBLISH)
            answer = cast(list[bytes], script(keys, [expected or "", number, digest, writer, len(drafts), record]))
        outcome, about = answer
        return outcome.decode(), about.decode()

    def _tell(self, manifest: Manifest) -> None:
        with suppress(StoreUnavailable), self._redis.connected() as client:  # the version is there all the same
            news: dict[Any, Any] = {"cell": manifest.cell.cell_id, "number": manifest.number}
            client.xadd(_NEWS, news, maxlen=_MOST_NEWS)

    def _forget(self, drafts: dict[str, str]) -> None:
        if drafts:
            with suppress(StoreUnavailable), self._redis.connected() as client:  # they expire all the same
                client.unlink(*drafts)


def _key(cell_id: str, name: str) -> str:
    return f"fingerpost:{{{cell_id}}}:{name}"


def _last_news(client: Client) -> str:
    last = cast(list[Any], client.xrevrange(_NEWS, count=1))
    return last[0][0].decode() if last else "0-0"


def _order(message: str) -> tuple[int, ...]:
    return tuple(map(int, message.split("-")))
