from collections.abc import Iterator
from pathlib import Path

import pytest

from reference_db import Store, open_store
from reference_db.stores.redis import RedisStore
from tests.redis_servers import PATIENCE_S, RedisServers, empty


@pytest.fixture(params=["directory", "redis_server", "redis_cluster"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty store of each kind."""
    if request.param == "directory":
        return str(tmp_path / "store")
    servers: RedisServers = request.getfixturevalue(request.param)
    empty(servers)
    return servers.url


def open_at(address: str) -> Store:
    """Opens a store, with more patience with Redis than a service has."""
    return RedisStore(address, timeout_s=PATIENCE_S) if "://" in address else open_store(address)


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    store = open_at(address)
    yield store
    store.close()
