"""Connects to Redis by URL: to a single server or to a cluster."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from redis import Redis, RedisCluster
from redis.backoff import ExponentialBackoff
from redis.cluster import ClusterNode
from redis.connection import parse_url
from redis.exceptions import ConnectionError, OutOfMemoryError, RedisClusterException, RedisError
from redis.retry import Retry

from reference_db.errors import StoreFull, StoreUnavailable

Client = Redis | RedisCluster

_CLUSTER = "+cluster"
_DEFAULT_PORT = 6379
_OOM_IN_SCRIPT = "-OOM command not allowed"  # Redis 6; later versions raise OutOfMemoryError
_MOST_RETRIES = 1  # for a connection that Redis has closed since its last use


class RedisClient:
    """A client that connects on first use, so Redis may be down when the client is created. Threads may share it.

    Args:
        url: `redis://[user:password@]host[:port][/database]`, or `rediss://` with TLS. For a cluster `redis+cluster://`
            or `rediss+cluster://` with one or more hosts, separated by commas: nodes of the cluster, or a name that
            resolves to nodes.
        timeout_s: longest wait for a reply, in seconds. A request that times out is not repeated.

    Raises:
        ValueError: the URL is not a Redis URL.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._hosts, self._in_cluster = _hosts(url)
        self._nodes = [parse_url(host) for host in self._hosts]  # type: ignore[no-untyped-call]
        self._client: Client | None = None
        self._lock = threading.Lock()

    @contextmanager
    def connected(self) -> Iterator[Client]:
        """Yields the client. Raises `StoreUnavailable` or `StoreFull` for every error of Redis inside the block."""
        try:
            yield self._opened()
        except (RedisError, RedisClusterException, OSError) as error:
            if isinstance(error, OutOfMemoryError) or _OOM_IN_SCRIPT in str(error):
                raise StoreFull(f"Redis: {error}") from error
            raise StoreUnavailable(f"Redis: {error}") from error

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _opened(self) -> Client:
        if self._client is None:
            client = self._open()  # asks a cluster for its nodes, so it must not hold the lock
            with self._lock:
                if self._client is None:
                    self._client = client
            if self._client is not client:
                client.close()
        return self._client

    def _open(self) -> Client:
        options: dict[str, Any] = {
            "socket_timeout": self._timeout_s,
            "socket_connect_timeout": self._timeout_s,
            "retry": Retry(ExponentialBackoff(cap=0.2, base=0.02), _MOST_RETRIES, (ConnectionError,)),
            "protocol": 2,
        }
        if not self._in_cluster:
            return Redis.from_url(self._hosts[0], **options)
        others = [
            ClusterNode(node["host"], node.get("port", _DEFAULT_PORT))  # type: ignore[no-untyped-call]
            for node in self._nodes[1:]
        ]
        # When the cluster changes, ask the configured hosts again: all addresses of its nodes may be new.
        return RedisCluster.from_url(self._hosts[0], startup_nodes=others, dynamic_startup_nodes=False, **options)


def _hosts(url: str) -> tuple[list[str], bool]:
    """A redis-py URL for each host, and whether the hosts are nodes of a cluster."""
    parts = urlsplit(url)
    scheme = parts.scheme.removesuffix(_CLUSTER)
    if scheme not in ("redis", "rediss") or not parts.netloc:
        raise ValueError("a Redis URL must start with redis://, rediss://, redis+cluster:// or rediss+cluster://")
    if scheme == parts.scheme:
        return [url], False
    login, at, hosts = parts.netloc.rpartition("@")
    return [urlunsplit(parts._replace(scheme=scheme, netloc=login + at + host)) for host in hosts.split(",")], True
