"""A store in Redis, a single server or a cluster, that any number of replicas share.

    fingerpost:{<cell_id>}:current                     number, digest and writer of the current version
    fingerpost:{<cell_id>}:manifests                   hash: number -> digest, line feed, manifest
    fingerpost:{<cell_id>}:segment:<digest>            each segment of any version
    fingerpost:{<cell_id>}:draft:<writer>:<digest>     a segment that is not published yet; expires
    fingerpost:{<cell_id>}:tombstone                   the cell was removed
    fingerpost:cells                                   set: every cell that a writer has started to publish
    fingerpost:versions                                stream of cell and version number, about the last 10,000

The braces keep all keys of a cell on one node of a cluster. One script publishes a version: it turns the drafts into
segments and moves the pointer, or does nothing. One script removes versions, or a cell, if the pointer is where it was
when the removal was planned. A killed writer leaves only drafts, and drafts expire.

Redis may evict drafts but no other key: set `maxmemory-policy` to noeviction or volatile-*. `appendfsync` decides which
versions survive a crash of Redis.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, cast
from uuid import uuid4

from redis import Redis, RedisCluster
from redis.exceptions import RedisError, ResponseError

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
from reference_db.stores.store import Buffer, Removal

_CELLS = "fingerpost:cells"
_NEWS = "fingerpost:versions"
_MOST_NEWS = 10_000
_CELL_ID = re.compile(CELL_ID_PATTERN)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(rb"[1-9][0-9]{0,9}")
_POINTER = re.compile(rb"([0-9]+) ([0-9a-f]{64}) ([0-9a-f]{32})")
_SEGMENT_TIMEOUT_S = 30.0
_LONGEST_WAIT_S = 10.0  # for news; well below that timeout

_ATTEMPTS = 100  # to remove something while others publish

# KEYS: pointer, manifests, tombstone, the drafts, the final keys of the drafts in the same order, the segments that
# must exist, the segments to remove.
# ARGV: the expected digest ('': none), number, digest, writer, number of drafts, record of digest and manifest, number
# of segments to remove, the numbers of the versions to remove.
# Redis refuses the first write when its memory is full, so that nothing has changed then.
_PUBLISH = """
local pointer = redis.call('GET', KEYS[1])
local digest, writer = '', ''
if pointer then digest, writer = string.match(pointer, '^%d+ (%x+) (%x+)$') end
if writer == ARGV[4] then return {'published', ''} end
if digest ~= ARGV[1] then return {'conflict', digest or ''} end
local drafts, needed = tonumber(ARGV[5]), #KEYS - tonumber(ARGV[7])
for i = 4, needed do
    local is_final_key = i > 3 + drafts and i <= 3 + 2 * drafts
    if not is_final_key and redis.call('EXISTS', KEYS[i]) == 0 then return {'missing', KEYS[i]} end
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[6])
for i = 4, 3 + drafts do
    redis.call('PERSIST', KEYS[i])
    redis.call('RENAME', KEYS[i], KEYS[i + drafts])
end
redis.call('SET', KEYS[1], ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4])
redis.call('DEL', KEYS[3])
for i = needed + 1, #KEYS do redis.call('UNLINK', KEYS[i]) end
for i = 8, #ARGV do redis.call('HDEL', KEYS[2], ARGV[i]) end
return {'published', ''}
"""

# KEYS: pointer, manifests, the segments to remove. ARGV: the pointer, the numbers of the versions to remove.
# Removing needs no memory, so Redis runs this when it is full.
_REMOVE_VERSIONS = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
for i = 3, #KEYS do redis.call('UNLINK', KEYS[i]) end
for i = 2, #ARGV do redis.call('HDEL', KEYS[2], ARGV[i]) end
return 1
"""

# KEYS: pointer, manifests, tombstone, the segments and drafts. ARGV: the pointer.
# The first write frees memory, so Redis then accepts the tombstone when it is full.
_REMOVE_CELL = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('UNLINK', KEYS[2])
for i = 4, #KEYS do redis.call('UNLINK', KEYS[i]) end
redis.call('SET', KEYS[3], '')
return 1
"""


class _Pointer(NamedTuple):
    number: int
    digest: str
    writer: str


class RedisStore:
    """A `Store` with `News`.

    A publish that times out may have taken effect. The store then reads the pointer to find out. If that fails too,
    it raises `StoreUnavailable`, and the version may still appear later.

    Args:
        url: see `RedisClient`.
        timeout_s: longest wait in seconds for pointers and manifests. The timeout for segments is at least 30 s.
        draft_life_s: seconds after which the drafts of a killed writer expire.
    """

    def __init__(self, url: str, *, timeout_s: float = 2.0, draft_life_s: float = 3600.0) -> None:
        self._redis = RedisClient(url, timeout_s)
        self._redis_for_segments = RedisClient(url, max(timeout_s, _SEGMENT_TIMEOUT_S))
        self._draft_life_ms = round(draft_life_s * 1000)
        self._last_heard: str | None = None

    def cells(self) -> list[str]:
        with self._redis.connected() as client:
            names = (_read_cell_id(name) for name in cast(set[bytes], client.smembers(_CELLS)))
            begun = sorted(name for name in names if name is not None)
            try:
                with client.pipeline(transaction=False) as pipeline:
                    for cell_id in begun:
                        pipeline.exists(_key(cell_id, "current"))
                    published = pipeline.execute()
            except (RedisError, OSError):
                if isinstance(client, RedisCluster):  # a node fails: it must not hide the cells of the others
                    return begun
                raise
        return [cell_id for cell_id, there in zip(begun, published, strict=True) if there]

    def current(self, cell_id: str) -> Manifest | None:
        pointer = self._pointer(cell_id)
        if pointer is None:
            return None
        try:
            manifest = self.manifest(cell_id, pointer.number)
        except UnknownVersion as error:
            if self._pointer(cell_id) != pointer:  # removed meanwhile
                return self.current(cell_id)
            raise CorruptManifest(f"cell {cell_id!r}: the manifest of version {pointer.number} is missing") from error
        if manifest.digest != pointer.digest:
            if self._pointer(cell_id) != pointer:  # removed and published anew meanwhile
                return self.current(cell_id)
            raise CorruptManifest(
                f"cell {cell_id!r}: the manifest of version {pointer.number} is not the published one"
            )
        return manifest

    def newest(self, cell_id: str) -> str | None:
        pointer = self._pointer(cell_id)
        return None if pointer is None else pointer.digest

    def manifest(self, cell_id: str, number: int) -> Manifest:
        if not _CELL_ID.fullmatch(cell_id):
            raise UnknownVersion(cell_id, number)
        with self._redis.connected() as client, _checked_type(cell_id):
            kept = cast(bytes | None, client.hget(_key(cell_id, "manifests"), str(number)))
        if kept is None:
            raise UnknownVersion(cell_id, number)
        digest, _, data = kept.partition(b"\n")
        manifest = Manifest.from_bytes(data, digest.decode(errors="replace"))
        if (manifest.cell.cell_id, manifest.number) != (cell_id, number):
            raise CorruptManifest(f"cell {cell_id!r}: version {number} has the manifest of another version")
        return manifest

    def numbers(self, cell_id: str) -> list[int]:
        if not _CELL_ID.fullmatch(cell_id):
            return []
        with self._redis.connected() as client, _checked_type(cell_id):
            fields = cast(list[bytes], client.hkeys(_key(cell_id, "manifests")))
        return sorted(int(field) for field in fields if _NUMBER.fullmatch(field))

    def publish(
        self, manifest: Manifest, segments: Sequence[bytes], expected: str | None, without: Collection[int] = ()
    ) -> None:
        cell_id = manifest.cell.cell_id
        pointer = self._pointer(cell_id)  # checked before sending large segments
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
        spare = self._spare_segments(cell_id, without, listed)
        try:
            with self._redis_for_segments.connected() as client:
                for key, name in drafts.items():
                    client.set(key, given[name], px=self._draft_life_ms)
            outcome, about = self._publish(manifest, drafts, list(kept), expected, writer, without, spare)
        except StoreFull:  # Redis refused the version; the drafts only take space
            self._delete_drafts(drafts)
            raise
        except StoreUnavailable:
            if self._pointer(cell_id, writer) is None:
                raise
            outcome, about = "published", ""
        if outcome == "published":
            self._announce(cell_id, manifest.number)
            return
        self._delete_drafts(drafts)
        if outcome == "conflict":
            raise VersionConflict(cell_id, expected, about or None)
        if about in kept:
            raise MissingSegment(kept[about])
        raise StoreUnavailable(f"Redis dropped segments of cell {cell_id!r} before they were published")

    def get_segment(self, cell_id: str, digest: str) -> Buffer:
        if not (_CELL_ID.fullmatch(cell_id) and _DIGEST.fullmatch(digest)):
            raise MissingSegment(digest)
        with self._redis_for_segments.connected() as client, _checked_type(cell_id):
            data = cast(bytes | None, client.get(_key(cell_id, f"segment:{digest}")))
        if data is None:
            raise MissingSegment(digest)
        return data

    def remove_versions(self, cell_id: str, numbers: Collection[int], *, dry_run: bool = False) -> Removal:
        for _ in range(_ATTEMPTS):
            pointer = self._raw_pointer(cell_id)
            current = self._pointer(cell_id)
            if pointer is None or current is None:
                return Removal()
            stored = self.numbers(cell_id)
            if current.number not in stored:
                if self._raw_pointer(cell_id) != pointer:  # removed meanwhile
                    continue
                raise CorruptManifest(f"cell {cell_id!r}: the manifest of version {current.number} is missing")
            doomed = sorted(set(numbers).intersection(stored) - {current.number})
            spare = self._spare_segments(cell_id, doomed, ())
            removal = self._measure(cell_id, doomed, spare)
            if dry_run or not doomed:
                return removal
            keys = [_key(cell_id, "current"), _key(cell_id, "manifests"), *spare]
            with self._redis.connected() as client:
                if client.register_script(_REMOVE_VERSIONS)(keys, [pointer, *doomed]):
                    return removal
        raise StoreUnavailable(f"other writers keep changing cell {cell_id!r}")

    def remove_cell(self, cell_id: str, expected: str | None) -> Removal:
        for _ in range(_ATTEMPTS):
            pointer = self._raw_pointer(cell_id)
            if pointer is None:
                return Removal()
            if expected is not None:
                found = self._pointer(cell_id)
                if found is None or found.digest != expected:
                    raise VersionConflict(cell_id, expected, found and found.digest)
            numbers: list[int] = []
            with suppress(CorruptManifest):  # a damaged cell must not stay for that reason
                numbers = self.numbers(cell_id)
            segments, drafts = self._stored(cell_id, "segment"), self._stored(cell_id, "draft")
            removal = self._measure(cell_id, numbers, segments)
            keys = [*(_key(cell_id, name) for name in ("current", "manifests", "tombstone")), *segments, *drafts]
            with self._redis.connected() as client:
                removed = client.register_script(_REMOVE_CELL)(keys, [pointer])
            if removed:
                self._announce(cell_id, 0)
                return removal
        raise StoreUnavailable(f"other writers keep changing cell {cell_id!r}")

    def is_removed(self, cell_id: str) -> bool:
        if not _CELL_ID.fullmatch(cell_id):
            return False
        with self._redis.connected() as client:
            removed = bool(client.exists(_key(cell_id, "tombstone")))
            return removed and not client.exists(_key(cell_id, "current"))  # an older release leaves the tombstone

    def changed(self, timeout_s: float) -> set[str]:
        with self._redis_for_segments.connected() as client:
            if self._last_heard is None:
                self._last_heard = _last_news(client)
            wait_ms = int(min(timeout_s, _LONGEST_WAIT_S) * 1000) or None  # 0 would wait forever
            streams = cast(list[Any], client.xread({_NEWS: self._last_heard}, block=wait_ms))
            news = [message for _, messages in streams for message in messages]
            if news:
                self._last_heard = news[-1][0].decode()
            elif _order(_last_news(client)) < _order(self._last_heard):
                self._last_heard = "0-0"  # a new stream, made by a server whose clock is behind
        # Entries that no writer of ours made are left out; they must not stop the listening.
        names = (_read_cell_id((fields or {}).get(b"cell", b"")) for _, fields in news)
        return {name for name in names if name is not None}

    def check(self) -> None:
        with self._redis.connected() as client:
            client.exists(_CELLS)

    def shard(self, cell_id: str) -> str:
        with self._redis.connected() as client:
            if not isinstance(client, RedisCluster):
                return ""
            node = client.get_node_from_key(_key(cell_id, "current"))  # type: ignore[no-untyped-call]
            return "" if node is None else node.name

    def close(self) -> None:
        self._redis.close()
        self._redis_for_segments.close()

    def _pointer(self, cell_id: str, writer: str | None = None) -> _Pointer | None:
        """The pointer to the current version; with `writer`, None unless this writer published it."""
        kept = self._raw_pointer(cell_id)
        if kept is None:
            return None
        found = _POINTER.fullmatch(kept)
        if found is None:
            raise CorruptManifest(f"cell {cell_id!r}: the pointer to the current version is damaged")
        number, digest, author = found.groups()
        pointer = _Pointer(int(number), digest.decode(), author.decode())
        return pointer if writer in (None, pointer.writer) else None

    def _raw_pointer(self, cell_id: str) -> bytes | None:
        if not _CELL_ID.fullmatch(cell_id):
            return None
        with self._redis.connected() as client, _checked_type(cell_id):
            return cast(bytes | None, client.get(_key(cell_id, "current")))

    def _spare_segments(self, cell_id: str, doomed: Collection[int], listed: Iterable[str]) -> list[str]:
        """The keys of segments that only the versions `doomed` list, and not `listed` either.

        Removing them is safe while the pointer stays where it was before this call: no version can then be added.
        """
        if not doomed:
            return []
        spare = self._list_segments(cell_id, doomed)
        if spare is None:
            spare = set(self._stored(cell_id, "segment"))
        kept = self._list_segments(cell_id, set(self.numbers(cell_id)).difference(doomed))
        if kept is None:
            raise CorruptManifest(f"cell {cell_id!r}: a version is damaged, so the segments of old ones must stay")
        return sorted(spare - kept - {_key(cell_id, f"segment:{digest}") for digest in listed})

    def _list_segments(self, cell_id: str, numbers: Iterable[int]) -> set[str] | None:
        """The keys of all segments that these versions list; None if one of the versions is damaged."""
        found: set[str] = set()
        for number in numbers:
            try:
                manifest = self.manifest(cell_id, number)
            except UnknownVersion:  # removed meanwhile
                continue
            except CorruptManifest:
                return None
            found |= {_key(cell_id, f"segment:{segment.digest}") for segment in manifest.segments}
        return found

    def _stored(self, cell_id: str, kind: str) -> list[str]:
        """The keys of all segments or drafts of a cell. Looks at every key of the node."""
        with self._redis_for_segments.connected() as client:
            node: dict[str, Any] = {}
            if not isinstance(client, Redis):
                node["target_nodes"] = client.get_node_from_key(_key(cell_id, kind))  # type: ignore[no-untyped-call]
            keys = client.scan_iter(match=_key(cell_id, f"{kind}:*"), count=1000, **node)
            return sorted({key.decode() for key in keys})

    def _measure(self, cell_id: str, numbers: Collection[int], segments: Collection[str]) -> Removal:
        with self._redis.connected() as client, client.pipeline(transaction=False) as pipeline:
            for number in numbers:
                pipeline.hstrlen(_key(cell_id, "manifests"), str(number))
            for key in segments:
                pipeline.strlen(key)
            sizes = cast(list[int], pipeline.execute())
        return Removal(tuple(sorted(numbers)), len(segments), sum(sizes))

    def _publish(
        self,
        manifest: Manifest,
        drafts: dict[str, str],
        kept: list[str],
        expected: str | None,
        writer: str,
        without: Collection[int],
        spare: list[str],
    ) -> tuple[str, str]:
        """Runs the publishing script. Returns its outcome, and the digest or key that it concerns."""
        cell_id, number, digest = manifest.cell.cell_id, str(manifest.number), manifest.digest
        places = [_key(cell_id, f"segment:{name}") for name in drafts.values()]
        fixed = [_key(cell_id, name) for name in ("current", "manifests", "tombstone")]
        keys = [*fixed, *drafts, *places, *kept, *spare]
        record = digest.encode() + b"\n" + manifest.to_bytes()
        with self._redis.connected() as client:
            client.sadd(_CELLS, cell_id)
            script = client.register_script(_PUBLISH)
            arguments: list[Any] = [expected or "", number, digest, writer, len(drafts), record, len(spare), *without]
            answer = cast(list[bytes], script(keys, arguments))
        outcome, about = answer
        return outcome.decode(), about.decode()

    def _announce(self, cell_id: str, number: int) -> None:
        # The version is published even if the announcement fails.
        with suppress(StoreUnavailable), self._redis.connected() as client:
            news: dict[Any, Any] = {"cell": cell_id, "number": number}
            client.xadd(_NEWS, news, maxlen=_MOST_NEWS)

    def _delete_drafts(self, drafts: dict[str, str]) -> None:
        if drafts:
            with suppress(StoreUnavailable), self._redis.connected() as client:  # they expire in any case
                client.unlink(*drafts)


@contextmanager
def _checked_type(cell_id: str) -> Iterator[None]:
    """Translates the error of Redis about a key of another type, which is damage to one cell and no outage."""
    try:
        yield
    except ResponseError as error:
        if not str(error).startswith("WRONGTYPE"):
            raise
        raise CorruptManifest(f"cell {cell_id!r}: a key in Redis has another type") from error


def _read_cell_id(name: bytes) -> str | None:
    """None for a name that no cell can have."""
    text = name.decode(errors="replace")
    return text if _CELL_ID.fullmatch(text) else None


def _key(cell_id: str, name: str) -> str:
    return f"fingerpost:{{{cell_id}}}:{name}"


def _last_news(client: Client) -> str:
    last = cast(list[Any], client.xrevrange(_NEWS, count=1))
    return last[0][0].decode() if last else "0-0"


def _order(message: str) -> tuple[int, ...]:
    return tuple(map(int, message.split("-")))
