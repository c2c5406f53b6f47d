"""The compose file, checked without Docker."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings
from tests.deploy.dockerfile import ROOT, read_stages
from tests.redis_servers import RedisServer

FILE = ROOT / "docker-compose.yml"
GPU = ROOT / "deploy" / "docker" / "gpu.yml"
SERVICES: dict[str, Any] = yaml.safe_load(FILE.read_text())["services"]
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_files_follow_the_compose_specification() -> None:
    _run(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", FILE, GPU)


def test_docker_compose_accepts_the_files() -> None:
    compose = shutil.which("docker-compose", path=PATH)
    if compose is None:
        pytest.skip("docker-compose is not installed")
    _run(compose, "--file", FILE, "config", "--quiet")
    _run(compose, "--file", FILE, "--file", GPU, "config", "--quiet")


def test_replicas_have_time_to_drain_and_to_end_an_update() -> None:
    grace = SERVICES["fingerpost"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > 2 * (Settings().drain_s + Settings().shutdown_s)


def test_dclint_finds_nothing() -> None:
    dclint = shutil.which("dclint", path=PATH)
    if dclint is None:
        pytest.skip("dclint is not installed")
    _run(dclint, "--config", ROOT / ".dclintrc.yaml", "--max-warnings", "0", FILE)


def test_every_mounted_file_exists() -> None:
    mounted = [volume for service in SERVICES.values() for volume in service["volumes"] if volume.startswith("./")]
    assert len(mounted) >= 5
    assert all((ROOT / volume.split(":")[0]).exists() for volume in mounted)


def test_keys_are_mounted_as_a_folder_that_git_ignores() -> None:
    keys = Path(read_stages()["service"].environment()["FINGERPOST_KEYS_FILE"])
    assert f"./deploy/keys:{keys.parent}:ro" in SERVICES["fingerpost"]["volumes"]
    assert (ROOT / "deploy/keys/.gitignore").read_text().splitlines() == ["*", "!.gitignore"]


def test_services_find_each_other() -> None:
    replicas, redis = SERVICES["fingerpost"], SERVICES["redis"]
    port = read_stages()["service"].environment()["FINGERPOST_PORT"]
    assert replicas["deploy"]["replicas"] == 2
    assert SERVICES["haproxy"]["environment"]["FINGERPOST_REPLICAS"] == f"fingerpost:{port}"
    assert set(SERVICES["haproxy"]["networks"]) & set(replicas["networks"])
    assert replicas["environment"]["FINGERPOST_REDIS_URL"] == f"redis://redis:{redis['expose'][0]}"
    assert set(redis["networks"]) == {"storage"} <= set(replicas["networks"])
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    asked = {job["job_name"]: job for job in prometheus["scrape_configs"]}
    (names,) = asked["fingerpost"]["dns_sd_configs"]
    assert (names["names"], names["port"]) == (["fingerpost"], int(port))
    assert set(SERVICES["prometheus"]["networks"]) >= {"replicas"}


@pytest.fixture
def redis(redis_here: None, tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis with the options in the compose file, with environment variables at their defaults."""
    options = [str(one).replace("${FINGERPOST_REDIS_MEMORY:-4gb}", "4gb") for one in SERVICES["redis"]["command"][1:]]
    server = RedisServer(tmp_path / "redis", *options)
    yield server
    server.kill()


def test_redis_keeps_every_acknowledged_write(redis: RedisServer) -> None:
    expected = {
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "maxmemory": str(4 * 2**30),
        "save": "",
    }
    with redis.client() as client:
        assert {name: client.config_get(name)[name] for name in expected} == expected
        client.set("cell", "version")
    redis.kill()
    redis.start()
    with redis.client() as client:
        assert client.get("cell") == b"version"
