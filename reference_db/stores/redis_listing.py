"""Lists the cells: by a set in Redis, and in a cluster by the keys of its nodes while the set cannot be read."""

from typing import cast

from redis import RedisCluster
from redis.exceptions import RedisClusterException, RedisError

from reference_db.errors import StoreUnavailable
from reference_db.stores.redis_client import Client, RedisClient
from reference_db.stores.redis_layout import CELLS, key, read_cell_id, read_cell_id_of_key

_FAILURES = (RedisError, RedisClusterException, OSError)


class RedisListing:
    """In a cluster the set lies on one node. A failure of this node must not hide the cells of the other nodes.

    Any thread may call any method.
    """

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self._read_last: list[str] = []  # from the set
        self.is_incomplete = False  # see `Store.misses_cells`

    def cells(self) -> list[str]:
        """See `Store.cells`."""
        with self._redis.connected() as client:
            try:
                begun = self._read_last = _read_set(client)
            except _FAILURES:
                if not isinstance(client, RedisCluster):
                    raise
                return self._search(client)
            self.is_incomplete = False
            try:
                return _leave_out_unpublished(client, begun)
            except _FAILURES:
                if not isinstance(client, RedisCluster):
                    raise
                return begun  # `Store.current` raises the reason

    def add(self, cell_id: str, *, is_new: bool) -> None:
        """Call before a version of the cell is published. The set already has a cell that is not new."""
        with self._redis.connected() as client:
            try:
                client.sadd(CELLS, cell_id)
            except _FAILURES:
                if is_new or not isinstance(client, RedisCluster):
                    raise

    def check(self) -> None:
        """See `Store.check`."""
        with self._redis.connected() as client:
            try:
                client.exists(CELLS)
            except _FAILURES:
                if not isinstance(client, RedisCluster):
                    raise
                self._search(client)

    def _search(self, cluster: RedisCluster) -> list[str]:
        """The cells of the nodes that answer, and the cells of the other nodes as far as they were listed before.

        Looks at every key of the nodes.
        """
        found: set[str | None] = set()
        silent: set[str] = set()
        nodes = cluster.get_primaries()  # type: ignore[no-untyped-call]
        for node in nodes:
            try:
                keys = cluster.scan_iter(match=key("*", "current"), count=1000, target_nodes=node)
                found |= {read_cell_id_of_key(name) for name in keys}
            except _FAILURES:
                silent.add(node.name)
        if len(silent) == len(nodes):
            raise StoreUnavailable("Redis: no node of the cluster answers")
        self.is_incomplete = bool(silent)
        for cell_id in self._read_last:
            node = cluster.get_node_from_key(key(cell_id, "current"))  # type: ignore[no-untyped-call]
            if node is None or node.name in silent:
                found.add(cell_id)
        return sorted(cell_id for cell_id in found if cell_id is not None)


def _read_set(client: Client) -> list[str]:
    names = (read_cell_id(name) for name in cast(set[bytes], client.smembers(CELLS)))
    return sorted(name for name in names if name is not None)


def _leave_out_unpublished(client: Client, begun: list[str]) -> list[str]:
    with client.pipeline(transaction=False) as pipeline:
        for cell_id in begun:
            pipeline.exists(key(cell_id, "current"))
        published = pipeline.execute()
    return [cell_id for cell_id, there in zip(begun, published, strict=True) if there]
