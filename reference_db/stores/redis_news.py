"""The stream of Redis in which writers announce versions."""

from contextlib import suppress
from typing import Any, cast

from reference_db.errors import StoreUnavailable
from reference_db.stores.redis_client import Client, RedisClient
from reference_db.stores.redis_layout import NEWS, read_cell_id

_MOST_NEWS = 10_000
_LONGEST_WAIT_S = 10.0  # well below the time that a client for segments waits


class RedisNews:
    """See `News`. Each object keeps its own place in the stream."""

    def __init__(self, redis: RedisClient) -> None:
        """`redis` waits for replies longer than 10 s."""
        self._redis = redis
        self._last_heard: str | None = None

    def changed(self, timeout_s: float) -> set[str]:
        with self._redis.connected() as client:
            if self._last_heard is None:
                self._last_heard = _last_news(client)
            wait_ms = int(min(timeout_s, _LONGEST_WAIT_S) * 1000) or None  # 0 would wait forever
            streams = cast(list[Any], client.xread({NEWS: self._last_heard}, block=wait_ms))
            news = [message for _, messages in streams for message in messages]
            if news:
                self._last_heard = news[-1][0].decode()
            elif _order(_last_news(client)) < _order(self._last_heard):
                self._last_heard = "0-0"  # a new stream, made by a server whose clock is behind
        # Entries that no writer of ours made are left out; they must not stop the listening.
        names = (read_cell_id((fields or {}).get(b"cell", b"")) for _, fields in news)
        return {name for name in names if name is not None}


def announce(redis: RedisClient, cell_id: str, number: int) -> None:
    """Announces a version; number 0 says that the cell was removed. The change holds even if this fails."""
    with suppress(StoreUnavailable), redis.connected() as client:
        news: dict[Any, Any] = {"cell": cell_id, "number": number}
        client.xadd(NEWS, news, maxlen=_MOST_NEWS)


def _last_news(client: Client) -> str:
    last = cast(list[Any], client.xrevrange(NEWS, count=1))
    return last[0][0].decode() if last else "0-0"


def _order(message: str) -> tuple[int, ...]:
    return tuple(map(int, message.split("-")))
