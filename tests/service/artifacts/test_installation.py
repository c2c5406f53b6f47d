"""The state that replicas share, in a directory and in Redis."""

import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reference_db.errors import CorruptManifest, StoreUnavailable
from service.artifacts.directory_installation import DirectoryInstallation
from service.artifacts.installation import ActiveArtifact, Installation, Replica, read_active
from service.artifacts.redis_installation import RedisInstallation
from tests.redis_servers import RedisServer, redis_server_binary, wait_until

Open = Callable[[], Installation]
FIRST, SECOND, THIRD = (
    ActiveArtifact(family="mateformer", folder=name, digest=digit * 64)
    for name, digit in (("one", "1"), ("two", "2"), ("three", "3"))
)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer | None]:
    if redis_server_binary() is None:
        yield None
        return
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture(params=["directory", "redis"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path, redis: RedisServer | None) -> Iterator[Open]:
    """Opens the same installation again, as another replica does."""
    opened: list[Installation] = []
    if request.param == "redis":
        if redis is None:
            pytest.skip("redis-server is not installed")
        with redis.client() as client:
            client.flushall()

    def reopen() -> Installation:
        url = "" if redis is None else redis.url
        opened.append(DirectoryInstallation(tmp_path) if request.param == "directory" else RedisInstallation(url))
        return opened[-1]

    yield reopen
    for one in opened:
        one.close()


def replica(name: str, valid_s: float = 60.0, **artifacts: str) -> Replica:
    return Replica(name=name, artifacts=artifacts, valid_s=valid_s)


def test_a_new_installation_has_no_active_artifact_and_no_replica(reopen: Open) -> None:
    installation = reopen()
    assert installation.active() == {}
    assert installation.replicas() == []


def test_other_replicas_see_what_was_activated(reopen: Open) -> None:
    installation, other = reopen(), reopen()
    tracks = ActiveArtifact(family="scadf-moe", folder="tracks", digest="4" * 64)
    assert installation.activate(FIRST, None)
    assert other.activate(tracks, None)
    assert other.active() == installation.active() == {"mateformer": FIRST, "scadf-moe": tracks}


def test_an_activation_that_has_not_seen_the_active_artifact_changes_nothing(reopen: Open) -> None:
    installation = reopen()
    assert installation.activate(FIRST, None)
    assert not installation.activate(SECOND, None)
    assert installation.activate(SECOND, FIRST)
    again = FIRST.model_copy(update={"token": "5" * 32})  # back to the first artifact
    assert installation.activate(again, SECOND)
    assert not installation.activate(THIRD, FIRST)
    assert installation.active() == {"mateformer": again}


def test_of_activations_at_once_one_succeeds(reopen: Open) -> None:
    artifacts = [ActiveArtifact(family="mateformer", folder=f"f{number}", digest="6" * 64) for number in range(8)]
    installations = [reopen() for _ in artifacts]
    with ThreadPoolExecutor(8) as threads:
        tries = [
            threads.submit(installation.activate, artifact, None)
            for installation, artifact in zip(installations, artifacts, strict=True)
        ]
        done = [one.result() for one in tries]
    (winner,) = (artifact for artifact, succeeded in zip(artifacts, done, strict=True) if succeeded)
    assert reopen().active() == {"mateformer": winner}


def test_reports_are_listed_until_they_are_withdrawn(reopen: Open) -> None:
    installation = reopen()
    installation.report(replica("b", mateformer="1" * 64))
    installation.report(replica("a", mateformer="1" * 64))
    installation.report(replica("a", mateformer="2" * 64))
    assert reopen().replicas() == [replica("a", mateformer="2" * 64), replica("b", mateformer="1" * 64)]
    installation.withdraw("a")
    installation.withdraw("never-there")
    assert [one.name for one in reopen().replicas()] == ["b"]


def test_a_replica_that_no_longer_reports_is_forgotten(reopen: Open) -> None:
    installation = reopen()
    installation.report(replica("killed", valid_s=0.01))

    def forgotten() -> bool:
        installation.report(replica("alive"))
        return [one.name for one in installation.replicas()] == ["alive"]

    wait_until(forgotten, "a replica that was killed is listed for ever")


def test_a_directorys_clock_decides_which_reports_hold(tmp_path: Path) -> None:
    """The clocks of machines that mount it differ."""
    installation = DirectoryInstallation(tmp_path)
    installation.report(replica("here"))
    report = tmp_path / "installation" / "replicas" / "here.json"
    ahead = time.time() + 3600
    os.utime(report, (ahead, ahead))
    assert [one.name for one in installation.replicas()] == ["here"]


def test_a_report_does_not_make_a_directory_that_is_missing(tmp_path: Path) -> None:
    DirectoryInstallation(tmp_path / "missing").report(replica("a"))
    assert not (tmp_path / "missing").exists()


def damage(reopen: Open, redis: RedisServer | None, folder: Path) -> None:
    installation = reopen()
    assert installation.activate(FIRST, None)
    if isinstance(installation, DirectoryInstallation):
        (folder / "installation" / "active" / "mateformer.json").write_bytes(b"{")
    else:
        assert redis is not None
        with redis.client() as client:
            client.set("fingerpost:active:mateformer", b"no token")


def test_a_damaged_record_is_named_and_replaced_by_the_next_activation(
    reopen: Open, redis: RedisServer | None, tmp_path: Path
) -> None:
    damage(reopen, redis, tmp_path)
    installation = reopen()
    with pytest.raises(CorruptManifest):
        installation.active()
    assert installation.activate(SECOND, None)
    assert installation.active() == {"mateformer": SECOND}


def test_a_redis_that_is_down_is_told(tmp_path: Path) -> None:
    if redis_server_binary() is None:
        pytest.skip("redis-server is not installed")
    server = RedisServer(tmp_path)
    installation = RedisInstallation(server.url)
    server.kill()
    for call in (installation.active, installation.replicas, lambda: installation.report(replica("a"))):
        with pytest.raises(StoreUnavailable):
            call()
    installation.close()


def test_a_family_with_a_foreign_name_hides_no_other(reopen: Open, redis: RedisServer | None) -> None:
    if redis is None:
        pytest.skip("a directory names no families")
    installation = reopen()
    assert installation.activate(FIRST, None)
    with redis.client() as client:
        client.sadd("fingerpost:families", b"\xff")
    assert installation.active() == {"mateformer": FIRST}


def test_the_later_use_of_a_key_is_kept(reopen: Open, tmp_path: Path) -> None:
    here, there = reopen(), reopen()
    assert here.merge_key_uses({}) == {}
    assert here.merge_key_uses({"a": 1000, "b": 3000}) == {"a": 1000, "b": 3000}
    assert there.merge_key_uses({"a": 2000, "b": 1000}) == {"a": 2000, "b": 3000}
    assert here.merge_key_uses({}) == {"a": 2000, "b": 3000}


def test_an_activation_remembers_those_before_it(reopen: Open) -> None:
    installation = reopen()
    before: ActiveArtifact | None = None
    for number in range(60):
        active = ActiveArtifact.after(before, "mateformer", f"f{number}", "5" * 64, float(number))
        assert installation.activate(active, before)
        before = active
    folders = [(one.folder, one.at) for one in reopen().active()["mateformer"].activations()]
    assert folders == [(f"f{number}", float(number)) for number in range(59, 8, -1)]


def test_the_record_of_an_earlier_release_has_no_history() -> None:
    stored = {"family": "mateformer", "folder": "one", "digest": "1" * 64, "token": "a" * 32}
    active = read_active(json.dumps(stored).encode())
    assert [(one.folder, one.at) for one in active.activations()] == [("one", None)]
