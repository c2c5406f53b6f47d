"""Tracks in Redis, for several replicas.

    fingerpost:{<cell_id>}:track:<kind>:<digest>    list: the last snapshots of one owner's trackId; expires
    fingerpost:{<cell_id>}:tracks:<kind>:<digest>   sorted set: the digests of one owner's tracks by their last use;
                                                    expires

The owner is an API key. The braces keep the keys of a cell on one node of a cluster.
"""

import time
from collections.abc import Callable
from typing import Generic, cast

from reference_db.errors import StoreUnavailable
from reference_db.stores.redis_client import RedisClient
from reference_db.stores.redis_script import RedisScript
from service.errors import Congested, TracksUnavailable
from service.inference.workers import Workers
from service.locating.tracks import DIGEST_BYTES, K, Kind, TrackName, digest

_THREADS = 4
_TIMEOUT_S = 0.25  # a user can be located without the track, and should not wait long
_PAUSE_S = 1.0  # after a failure, requests do not wait for Redis for this long

# KEYS: the track, the owner's set of tracks. ARGV: a snapshot, snapshots to keep, milliseconds to live, the digest of
# the track, tracks to keep, the prefix of every track's key, bytes of a digest. A snapshot starts with the digests of
# its request (zeros where it has none) and of its measurement, as `SnapshotNames.repeats` compares them. Scores are
# microseconds, so that no two tracks share one. Redis refuses the first writing command, RPUSH, when its memory is
# full, so nothing is half written.
_EXTEND = RedisScript("""
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local size = tonumber(ARGV[7])
local request, measurement = ARGV[1]:sub(1, size), ARGV[1]:sub(size + 1, 2 * size)
local named = request ~= string.rep('\\0', size)
local before = redis.call('LRANGE', KEYS[1], 0, -1)
redis.call('RPUSH', KEYS[1], ARGV[1])
for _, one in ipairs(before) do
    if one:sub(size + 1, 2 * size) == measurement or (named and one:sub(1, size) == request) then
        redis.call('LREM', KEYS[1], 1, one)
    end
end
redis.call('LTRIM', KEYS[1], -ARGV[2], -1)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now - 1000 * ARGV[3]))
redis.call('ZADD', KEYS[2], string.format('%.0f', now), ARGV[4])
local over = redis.call('ZCARD', KEYS[2]) - ARGV[5]
if over > 0 then
    for _, digest in ipairs(redis.call('ZRANGE', KEYS[2], 0, over - 1)) do
        redis.call('UNLINK', ARGV[6] .. digest)
        redis.call('ZREM', KEYS[2], digest)
    end
end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return redis.call('LRANGE', KEYS[1], 0, -1)
""")


class RedisTracks(Generic[K]):
    """Like `MemoryTracks`, but `limit` tracks of each owner and cell. `url` as in `RedisClient`.

    `read` is the inverse of `to_bytes` for snapshots of this `kind`; it raises `ValueError` for other data. For the
    event loop's thread.
    """

    def __init__(
        self,
        kind: Kind,
        read: Callable[[bytes], K],
        url: str,
        length: int,
        ttl_s: float,
        limit: int,
        waiting_limit: int,
    ) -> None:
        self._kind = kind
        self._read = read
        self._redis = RedisClient(url, _TIMEOUT_S)
        self._length = length
        self._ttl_ms = round(1000 * ttl_s)
        self._limit = limit
        self._threads = Workers("tracks", _THREADS, waiting_limit)
        self._paused_until = 0.0  # time.monotonic

    async def append(self, name: TrackName, snapshot: K) -> list[K]:
        try:
            self._check_pause()
            return await self._threads.run(self._append, name, snapshot)
        except (StoreUnavailable, Congested, ValueError) as error:
            raise TracksUnavailable("the tracks cannot be reached") from error

    def close(self) -> None:
        self._threads.close()
        self._redis.close()

    def _check_pause(self) -> None:
        if time.monotonic() < self._paused_until:
            raise StoreUnavailable("Redis did not answer a moment ago")

    def _append(self, name: TrackName, snapshot: K) -> list[K]:
        self._check_pause()  # the pause may have begun while this call waited
        cell, owner = f"fingerpost:{{{name.cell_id}}}", name.owner.encode()
        track = digest(owner, name.track_id.encode()).hex()
        prefix = f"{cell}:track:{self._kind}:"
        keys = [f"{prefix}{track}", f"{cell}:tracks:{self._kind}:{digest(owner).hex()}"]
        arguments: list[bytes | str | int] = [
            snapshot.to_bytes(),
            self._length,
            self._ttl_ms,
            track,
            self._limit,
            prefix,
            DIGEST_BYTES,
        ]
        try:
            with self._redis.connected() as client:
                kept = cast(list[bytes], _EXTEND.run(client, keys, arguments))
        except StoreUnavailable:
            self._paused_until = time.monotonic() + _PAUSE_S
            raise
        return [self._read(data) for data in kept]
