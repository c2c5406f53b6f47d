"""A store in Redis, a single server or a cluster, that any number of replicas share.

`redis_layout` lists the keys. One script publishes a version: it turns the drafts into
segments and moves the pointer, or does nothing. One script removes versions, or a cell, if the pointer is where it was
when the removal was planned. A killed writer leaves only drafts, and drafts expire.

Redis may evict drafts but no other key: set `maxmemory-policy` to noeviction or volatile-*. `appendfsync` decides which
versions survive a crash of Redis.
"""

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any, cast
from uuid import uuid4

from redis import RedisCluster

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
from reference_db.stores.redis_client import RedisClient
from reference_db.stores.redis_layout import checked_type, is_cell_id, is_digest, key
from reference_db.stores.redis_listing import RedisListing
from reference_db.stores.redis_news import RedisNews, announce
from reference_db.stores.redis_removal import find_spare_segments, remove_cell, remove_versions
from reference_db.stores.redis_script import RedisScript
from reference_db.stores.redis_truths import add_truths, read_truths
from reference_db.stores.redis_versions import read_manifest, read_numbers, read_pointer
from reference_db.stores.store import Buffer, Removal
from reference_db.truths import ScoredTruth, TruthCounts, TruthGroup

_SEGMENT_TIMEOUT_S = 30.0

# KEYS: pointer, manifests, tombstone, the drafts, the final keys of the drafts in the same order, the segments that
# must exist, the segments to remove.
# ARGV: the expected digest ('': none), number, digest, writer, number of drafts, record of digest and manifest, number
# of segments to remove, the numbers of the versions to remove.
# Redis refuses the first write when its memory is full, so that nothing has changed then.
_PUBLISH = RedisScript("""
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
""")


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
        self._listing = RedisListing(self._redis)
        self._news = RedisNews(self._redis_for_segments)

    def cells(self) -> list[str]:
        return self._listing.cells()

    def misses_cells(self) -> bool:
        return self._listing.is_incomplete

    def current(self, cell_id: str) -> Manifest | None:
        pointer = read_pointer(self._redis, cell_id)
        if pointer is None:
            return None
        try:
            manifest = self.manifest(cell_id, pointer.number)
        except UnknownVersion as error:
            if read_pointer(self._redis, cell_id) != pointer:  # removed meanwhile
                return self.current(cell_id)
            raise CorruptManifest(f"cell {cell_id!r}: the manifest of version {pointer.number} is missing") from error
        if manifest.digest != pointer.digest:
            if read_pointer(self._redis, cell_id) != pointer:  # removed and published anew meanwhile
                return self.current(cell_id)
            raise CorruptManifest(
                f"cell {cell_id!r}: the manifest of version {pointer.number} is not the published one"
            )
        return manifest

    def newest(self, cell_id: str) -> str | None:
        pointer = read_pointer(self._redis, cell_id)
        return None if pointer is None else pointer.digest

    def manifest(self, cell_id: str, number: int) -> Manifest:
        return read_manifest(self._redis, cell_id, number)

    def numbers(self, cell_id: str) -> list[int]:
        return read_numbers(self._redis, cell_id)

    def publish(
        self, manifest: Manifest, segments: Iterable[Buffer], expected: str | None, without: Collection[int] = ()
    ) -> None:
        cell_id = manifest.cell.cell_id
        pointer = read_pointer(self._redis, cell_id)  # checked before sending large segments
        digest, number = (None, 0) if pointer is None else (pointer.digest, pointer.number)
        if digest != expected:
            raise VersionConflict(cell_id, expected, digest)
        if manifest.number <= number:
            raise ValueError(f"cell {cell_id!r}: version {manifest.number} cannot follow version {number}")
        writer = uuid4().hex
        listed = dict.fromkeys(segment.digest for segment in manifest.segments)
        spare = find_spare_segments(self._redis, self._redis_for_segments, cell_id, without, listed)
        drafts: dict[str, str] = {}
        kept = {key(cell_id, f"segment:{name}"): name for name in listed}
        try:
            with self._redis_for_segments.connected() as client:
                for data in segments:
                    name = digest_of(data)
                    if kept.pop(key(cell_id, f"segment:{name}"), None) is not None:
                        draft = key(cell_id, f"draft:{writer}:{name}")
                        drafts[draft] = name
                        client.set(draft, data, px=self._draft_life_ms)
            outcome, about = self._publish(manifest, drafts, list(kept), expected, writer, without, spare)
        except StoreFull:  # Redis refused the version; the drafts only take space
            self._delete_drafts(drafts)
            raise
        except StoreUnavailable:
            if not self._has_published(cell_id, writer):
                raise
            outcome, about = "published", ""
        if outcome == "published":
            announce(self._redis, cell_id, manifest.number)
            return
        self._delete_drafts(drafts)
        if outcome == "conflict":
            raise VersionConflict(cell_id, expected, about or None)
        if about in kept:
            raise MissingSegment(kept[about])
        raise StoreUnavailable(f"Redis dropped segments of cell {cell_id!r} before they were published")

    def get_segment(self, cell_id: str, digest: str) -> Buffer:
        if not (is_cell_id(cell_id) and is_digest(digest)):
            raise MissingSegment(digest)
        with self._redis_for_segments.connected() as client, checked_type(cell_id):
            data = cast(bytes | None, client.get(key(cell_id, f"segment:{digest}")))
        if data is None:
            raise MissingSegment(digest)
        return data

    def remove_versions(self, cell_id: str, numbers: Collection[int], *, dry_run: bool = False) -> Removal:
        return remove_versions(self._redis, self._redis_for_segments, cell_id, numbers, dry_run=dry_run)

    def remove_cell(self, cell_id: str, expected: str | None) -> Removal:
        return remove_cell(self._redis, self._redis_for_segments, cell_id, expected)

    def is_removed(self, cell_id: str) -> bool:
        if not is_cell_id(cell_id):
            return False
        with self._redis.connected() as client:
            removed = bool(client.exists(key(cell_id, "tombstone")))
            return removed and not client.exists(key(cell_id, "current"))  # an older release leaves the tombstone

    def add_truths(self, cell_id: str, truths: Sequence[ScoredTruth]) -> list[bool]:
        return add_truths(self._redis, cell_id, truths)

    def read_truths(self, cell_id: str) -> dict[TruthGroup, TruthCounts]:
        return read_truths(self._redis, cell_id)

    def changed(self, timeout_s: float) -> set[str]:
        return self._news.changed(timeout_s)

    def check(self) -> None:
        self._listing.check()

    def shard(self, cell_id: str) -> str:
        with self._redis.connected() as client:
            if not isinstance(client, RedisCluster):
                return ""
            node = client.get_node_from_key(key(cell_id, "current"))  # type: ignore[no-untyped-call]
            return "" if node is None else node.name

    def close(self) -> None:
        self._redis.close()
        self._redis_for_segments.close()

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
        places = [key(cell_id, f"segment:{name}") for name in drafts.values()]
        fixed = [key(cell_id, name) for name in ("current", "manifests", "tombstone")]
        keys = [*fixed, *drafts, *places, *kept, *spare]
        record = digest.encode() + b"\n" + manifest.to_bytes()
        self._listing.add(cell_id, is_new=expected is None)
        with self._redis.connected() as client:
            arguments: list[Any] = [expected or "", number, digest, writer, len(drafts), record, len(spare), *without]
            answer = cast(list[bytes], _PUBLISH.run(client, keys, arguments))
        outcome, about = answer
        return outcome.decode(), about.decode()

    def _has_published(self, cell_id: str, writer: str) -> bool:
        pointer = read_pointer(self._redis, cell_id)
        return pointer is not None and pointer.writer == writer

    def _delete_drafts(self, drafts: dict[str, str]) -> None:
        if drafts:
            with suppress(StoreUnavailable), self._redis.connected() as client:  # they expire in any case
                client.unlink(*drafts)
