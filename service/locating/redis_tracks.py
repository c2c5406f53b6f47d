"""Tracks in Redis, for several replicas.

    fingerpost:{<cell_id>}:track:<digest of the trackId>   list: the last snapshots; expires
    fingerpost:{<cell_id>}:tracks                          sorted set of these digests by their last use; expires

The braces keep the keys of a cell on one node of a cluster.
"""

import time
from hashlib import blake2b
from typing import cast

from redis.commands.core import Script

from reference_db.errors import StoreUnavailable
from reference_db.stores.redis_client import RedisClient
from service.errors import Congested, TracksUnavailable
from service.inference.workers import Workers
from service.locating.tracks import TrackSnapshot

_THREADS = 4
_TIMEOUT_S = 0.25  # a user can be located without the track, and should not wait long
_PAUSE_S = 1.0  # after a failure, requests do not wait for Redis for this long

# KEYS: the track, the set of tracks. ARGV: a snapshot, snapshots to keep, milliseconds to live, the digest of the
# trackId, tracks to keep, the prefix of every track's key. Scores are microseconds, so that no two tracks share one.
# Redis refuses the first writing command, RPUSH, when its memory is full, so nothing is half written.
_EXTEND = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
redis.call('RPUSH', KEYS[1], ARGV[1])
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
"""


class RedisTracks:
    """Like `MemoryTracks`, but `limit` tracks of each cell. `url` as in `RedisClient`. For the event loop's thread."""

    def __init__(self, url: str, length: int, ttl_s: float, limit: int, waiting_limit: int) -> None:
        self._redis = RedisClient(url, _TIMEOUT_S)
        self._length = length
        self._ttl_ms = round(1000 * ttl_s)
        self._limit = limit
        self._threads = Workers("tracks", _THREADS, waiting_limit)
        self._paused_until = 0.0  # time.monotonic

    async def append(self, cell_id: str, track_id: str, snapshot: TrackSnapshot) -> list[TrackSnapshot]:
        try:
            self._check_pause()
            return await self._threads.run(self._append, cell_id, track_id, snapshot)
        except (StoreUnavailable, Congested, ValueError) as error:
            raise TracksUnavailable("the tracks cannot be reached") from error

    def close(self) -> None:
        self._threads.close()
        self._redis.close()

    def _check_pause(self) -> None:
        if time.monotonic() < self._paused_until:
            raise StoreUnavailable("Redis did not answer a moment ago")

    def _append(self, cell_id: str, track_id: str, snapshot: TrackSnapshot) -> list[TrackSnapshot]:
        self._check_pause()  # the pause may have begun while this call waited
        digest = blake2b(track_id.encode(), digest_size=16).hexdigest()
        track, tracks = (f"fingerpost:{{{cell_id}}}:{name}" for name in ("track:", "tracks"))
        keys = [track + digest, tracks]
        arguments: list[bytes | str | int] = [
            snapshot.to_bytes(),
            self._length,
            self._ttl_ms,
            digest,
            self._limit,
            track,
        ]
        try:
            with self._redis.connected() as client:
                script: Script = client.register_script(_EXTEND)
                kept = cast(list[bytes], script(keys, arguments))
        except StoreUnavailable:
            self._paused_until = time.monotonic() + _PAUSE_S
            raise
        return [TrackSnapshot.from_bytes(data) for data in kept]
