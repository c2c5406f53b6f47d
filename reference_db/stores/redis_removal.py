"""Removes versions and cells from Redis, each by one script that does nothing if the pointer has moved meanwhile."""

from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Any, cast

from redis import Redis

from reference_db.errors import CorruptManifest, StoreUnavailable, UnknownVersion, VersionConflict
from reference_db.stores.redis_client import RedisClient
from reference_db.stores.redis_layout import key
from reference_db.stores.redis_news import announce
from reference_db.stores.redis_script import RedisScript
from reference_db.stores.redis_truths import keys_of_truths
from reference_db.stores.redis_versions import read_manifest, read_numbers, read_pointer, read_raw_pointer
from reference_db.stores.store import Removal

_ATTEMPTS = 100  # to remove something while others publish

# KEYS: pointer, manifests, the segments to remove. ARGV: the pointer, the numbers of the versions to remove.
# Removing needs no memory, so Redis runs this when it is full.
_REMOVE_VERSIONS = RedisScript("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
for i = 3, #KEYS do redis.call('UNLINK', KEYS[i]) end
for i = 2, #ARGV do redis.call('HDEL', KEYS[2], ARGV[i]) end
return 1
""")

# KEYS: pointer, manifests, tombstone, the segments and drafts, and the truths. ARGV: the pointer.
# The first write frees memory, so Redis then accepts the tombstone when it is full.
_REMOVE_CELL = RedisScript("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('UNLINK', KEYS[2])
for i = 4, #KEYS do redis.call('UNLINK', KEYS[i]) end
redis.call('SET', KEYS[3], '')
return 1
""")


def remove_versions(
    redis: RedisClient, patient: RedisClient, cell_id: str, numbers: Collection[int], *, dry_run: bool
) -> Removal:
    """See `Store.remove_versions`. `patient` waits longer: it looks at every key of a node."""
    for _ in range(_ATTEMPTS):
        pointer = read_raw_pointer(redis, cell_id)
        current = read_pointer(redis, cell_id)
        if pointer is None or current is None:
            return Removal()
        stored = read_numbers(redis, cell_id)
        if current.number not in stored:
            if read_raw_pointer(redis, cell_id) != pointer:  # removed meanwhile
                continue
            raise CorruptManifest(f"cell {cell_id!r}: the manifest of version {current.number} is missing")
        doomed = sorted(set(numbers).intersection(stored) - {current.number})
        spare = find_spare_segments(redis, patient, cell_id, doomed, ())
        removal = _measure(redis, cell_id, doomed, spare)
        if dry_run or not doomed:
            return removal
        keys = [key(cell_id, "current"), key(cell_id, "manifests"), *spare]
        with redis.connected() as client:
            if _REMOVE_VERSIONS.run(client, keys, [pointer, *doomed]):
                return removal
    raise StoreUnavailable(f"other writers keep changing cell {cell_id!r}")


def remove_cell(redis: RedisClient, patient: RedisClient, cell_id: str, expected: str | None) -> Removal:
    """See `Store.remove_cell`."""
    for _ in range(_ATTEMPTS):
        pointer = read_raw_pointer(redis, cell_id)
        if pointer is None:
            return Removal()
        if expected is not None:
            found = read_pointer(redis, cell_id)
            if found is None or found.digest != expected:
                raise VersionConflict(cell_id, expected, found and found.digest)
        numbers: list[int] = []
        with suppress(CorruptManifest):  # a damaged cell must not stay for that reason
            numbers = read_numbers(redis, cell_id)
        segments, drafts = _find_keys(patient, cell_id, "segment"), _find_keys(patient, cell_id, "draft")
        removal = _measure(redis, cell_id, numbers, segments)
        keys = [key(cell_id, name) for name in ("current", "manifests", "tombstone")]
        keys += [*segments, *drafts, *keys_of_truths(cell_id)]
        with redis.connected() as client:
            removed = _REMOVE_CELL.run(client, keys, [pointer])
        if removed:
            announce(redis, cell_id, 0)
            return removal
    raise StoreUnavailable(f"other writers keep changing cell {cell_id!r}")


def find_spare_segments(
    redis: RedisClient, patient: RedisClient, cell_id: str, doomed: Collection[int], listed: Iterable[str]
) -> list[str]:
    """The keys of segments that only the versions `doomed` list, and not `listed` either.

    Removing them is safe while the pointer stays where it was before this call: no version can then be added.
    """
    if not doomed:
        return []
    spare = _list_segments(redis, cell_id, doomed)
    if spare is None:
        spare = set(_find_keys(patient, cell_id, "segment"))
    kept = _list_segments(redis, cell_id, set(read_numbers(redis, cell_id)).difference(doomed))
    if kept is None:
        raise CorruptManifest(f"cell {cell_id!r}: a version is damaged, so the segments of old ones must stay")
    return sorted(spare - kept - {key(cell_id, f"segment:{digest}") for digest in listed})


def _list_segments(redis: RedisClient, cell_id: str, numbers: Iterable[int]) -> set[str] | None:
    """The keys of all segments that these versions list; None if one of the versions is damaged."""
    found: set[str] = set()
    for number in numbers:
        try:
            manifest = read_manifest(redis, cell_id, number)
        except UnknownVersion:  # removed meanwhile
            continue
        except CorruptManifest:
            return None
        found |= {key(cell_id, f"segment:{segment.digest}") for segment in manifest.segments}
    return found


def _find_keys(patient: RedisClient, cell_id: str, kind: str) -> list[str]:
    """The keys of all segments or drafts of a cell. Looks at every key of the node."""
    with patient.connected() as client:
        node: dict[str, Any] = {}
        if not isinstance(client, Redis):
            node["target_nodes"] = client.get_node_from_key(key(cell_id, kind))  # type: ignore[no-untyped-call]
        found = client.scan_iter(match=key(cell_id, f"{kind}:*"), count=1000, **node)
        return sorted({one.decode() for one in found})


def _measure(redis: RedisClient, cell_id: str, numbers: Collection[int], segments: Collection[str]) -> Removal:
    with redis.connected() as client, client.pipeline(transaction=False) as pipeline:
        for number in numbers:
            pipeline.hstrlen(key(cell_id, "manifests"), str(number))
        for one in segments:
            pipeline.strlen(one)
        sizes = cast(list[int], pipeline.execute())
    return Removal(tuple(sorted(numbers)), len(segments), sum(sizes))
