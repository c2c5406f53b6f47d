"""The last answers in Redis, for several replicas.

    fingerpost:{<cell_id>}:answer:<digest>    the last answer to one owner's requestId; expires
    fingerpost:{<cell_id>}:answers:<digest>   sorted set: the digests of one owner's answers by their time; expires

The owner is an API key. The braces keep the keys of a cell on one node of a cluster.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import Any, cast

from reference_db.errors import StoreUnavailable
from reference_db.stores.redis_client import RedisClient
from reference_db.stores.redis_script import RedisScript
from service.errors import AnswersUnavailable, Congested
from service.inference.workers import Workers
from service.locating.recent_answers import AnswerName, GivenAnswer
from service.locating.tracks import digest

_log = logging.getLogger("fingerpost.answers")

_TIMEOUT_S = 1.0
_PAUSE_S = 1.0  # after a failure, answers are not remembered for this long

# KEYS: the owner's set of answers. ARGV: milliseconds to live, answers to keep, the prefix of every answer's key, then
# the digest and the bytes of each answer. Scores are microseconds. Redis refuses the first writing command when its
# memory is full.
_NOTE = RedisScript("""
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
for i = 4, #ARGV, 2 do
    redis.call('SET', ARGV[3] .. ARGV[i], ARGV[i + 1], 'PX', ARGV[1])
    redis.call('ZADD', KEYS[1], string.format('%.0f', now + i), ARGV[i])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - 1000 * ARGV[1]))
local over = redis.call('ZCARD', KEYS[1]) - ARGV[2]
if over > 0 then
    for _, one in ipairs(redis.call('ZRANGE', KEYS[1], 0, over - 1)) do
        redis.call('UNLINK', ARGV[3] .. one)
        redis.call('ZREM', KEYS[1], one)
    end
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
""")


class RedisRecentAnswers:
    """Like `MemoryRecentAnswers`, but `limit` answers of each owner and cell. `url` as in `RedisClient`.

    One thread writes, one request after the other. Answers of more than `waiting_limit` requests are not remembered.
    """

    def __init__(self, url: str, ttl_s: float, limit: int, waiting_limit: int) -> None:
        self._redis = RedisClient(url, _TIMEOUT_S)
        self._ttl_ms = max(1, round(1000 * ttl_s))
        self._limit = limit
        self._readers = Workers("answers", 1, waiting_limit)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="answers-notes")
        self._room = BoundedSemaphore(waiting_limit)
        self._paused_until = 0.0  # time.monotonic

    def note(self, named: Mapping[AnswerName, GivenAnswer]) -> None:
        if time.monotonic() >= self._paused_until and self._room.acquire(blocking=False):
            self._writer.submit(self._note, named).add_done_callback(lambda _: self._room.release())

    async def find(self, names: Sequence[AnswerName]) -> list[GivenAnswer | None]:
        try:
            return await self._readers.run(self._find, names)
        except (StoreUnavailable, Congested, ValueError) as error:
            raise AnswersUnavailable("the last answers cannot be reached") from error

    def close(self) -> None:
        self._writer.shutdown(wait=True, cancel_futures=True)
        self._readers.close()
        self._redis.close()

    def _note(self, named: Mapping[AnswerName, GivenAnswer]) -> None:
        by_owner: defaultdict[tuple[str, str], list[Any]] = defaultdict(list)
        for name, answer in named.items():
            by_owner[name.cell_id, name.owner] += [_digest(name), answer.to_bytes()]
        try:
            with self._redis.connected() as client:
                for (cell_id, owner), answers in by_owner.items():
                    mine = f"{_prefix(cell_id)}answers:{digest(owner.encode()).hex()}"
                    _NOTE.run(client, [mine], [self._ttl_ms, self._limit, f"{_prefix(cell_id)}answer:", *answers])
        except StoreUnavailable as error:
            self._paused_until = time.monotonic() + _PAUSE_S
            _log.warning("answers are not remembered: %s", error)

    def _find(self, names: Sequence[AnswerName]) -> list[GivenAnswer | None]:
        with self._redis.connected() as client:
            found = [cast(bytes | None, client.get(f"{_prefix(name.cell_id)}answer:{_digest(name)}")) for name in names]
        return [None if data is None else GivenAnswer.from_bytes(data) for data in found]


def _prefix(cell_id: str) -> str:
    return f"fingerpost:{{{cell_id}}}:"


def _digest(name: AnswerName) -> str:
    return digest(name.owner.encode(), name.request_id.encode()).hex()
