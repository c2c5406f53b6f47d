"""A rolling release: an operator stops and restarts one replica after the other."""

import re
from pathlib import Path

import pytest

from service.settings import Settings
from tests.deploy.balanced import CONFIGURATION, haproxy_binary
from tests.deploy.rolling_restarts import restart_under_load
from tests.redis_servers import RedisServer, empty
from tests.service.tiny_artifact import write_tiny_artifact

DRAIN_S: float = Settings.model_fields["drain_s"].default


def test_no_request_is_lost_while_both_replicas_restart(tmp_path: Path, redis_server: RedisServer) -> None:
    haproxy = haproxy_binary()
    if haproxy is None:
        pytest.skip("haproxy is not installed")
    empty(redis_server)
    write_tiny_artifact(tmp_path, tile_pitch=2.0)
    outcome = restart_under_load(haproxy, redis_server.url, tmp_path, rounds=1)
    assert outcome.restarts == 2
    assert outcome.versions > 2


def test_haproxy_notices_a_draining_replica_before_it_stops() -> None:
    said = re.search(r"default-server check inter (\d+)s fastinter (\d+)ms fall (\d+) ", CONFIGURATION.read_text())
    assert said is not None
    inter_s, fastinter_s, fall = int(said[1]), int(said[2]) / 1e3, int(said[3])
    assert 1.5 * (inter_s + (fall - 1) * fastinter_s) < DRAIN_S
