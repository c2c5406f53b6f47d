"""The set in Redis that lists all cells."""

from typing import cast

from redis import RedisCluster
from redis.exceptions import RedisError

from reference_db.stores.redis_client import Client, RedisClient
from reference_db.stores.redis_layout import CELLS, key, read_cell_id


class RedisListing:
    """Lists the cells. Threads may share it."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    def cells(self) -> list[str]:
        """See `Store.cells`."""
        with self._redis.connected() as client:
            names = (read_cell_id(name) for name in cast(set[bytes], client.smembers(CELLS)))
            begun = sorted(name for name in names if name is not None)
            try:
                return _leave_out_unpublished(client, begun)
            except (RedisError, OSError):
                if isinstance(client, RedisCluster):  # a node fails: it must not hide the cells of the others
                    return begun
                raise

    def add(self, cell_id: str) -> None:
        """Call before a version of the cell is published."""
        with self._redis.connected() as client:
            client.sadd(CELLS, cell_id)

    def check(self) -> None:
        """See `Store.check`."""
        with self._redis.connected() as client:
            client.exists(CELLS)


def _leave_out_unpublished(client: Client, begun: list[str]) -> list[str]:
    with client.pipeline(transaction=False) as pipeline:
        for cell_id in begun:
            pipeline.exists(key(cell_id, "current"))
        published = pipeline.execute()
    return [cell_id for cell_id, there in zip(begun, published, strict=True) if there]
