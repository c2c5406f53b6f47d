"""Single cells that are damaged or cannot be reached, versions that were lost, and a database that never answers.

Each replica is a process of its own, asked over HTTP.
"""

import gc
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from fingerpost import build_locate_body
from reference_db import Fingerprints, Store, Update, open_store, replace_cell
from tests.redis_servers import RedisCluster, RedisServer, empty, wait_until
from tests.service import changing_cell
from tests.service.changing_cell import GRID, STANDING, signals_at
from tests.service.plane_cell import make_cell
from tests.service.replicas import NEVER_S, Replica, running
from tests.service.tiny_cell import ORIGIN

USER = signals_at(STANDING)[0]
TOO_LATE = "MAX_RESP_TIME_EXCEEDED"


@pytest.fixture(scope="module")
def replica(
    redis_server: RedisServer, tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replica]:
    empty(redis_server)
    log = tmp_path_factory.mktemp("replica") / "log"
    with running(redis_server.url, tiny_artifact, log) as replica:
        yield replica


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[Store]:
    store = open_store(redis_server.url)
    yield store
    store.close()


def version_of(cell_id: str, *, moved: int = 0, store: Store) -> Update:
    """A version of a cell after the current one. Versions with another `moved` have other contents."""
    places, n = (GRID + changing_cell.moved(moved)).astype(np.float32), len(GRID)
    fingerprints = Fingerprints(signals_at(GRID), places, np.zeros(n), np.full(n, 0.05, np.float32))
    return replace_cell(store.current(cell_id), make_cell(cell_id), fingerprints, ORIGIN)


def publish(store: Store, cell_id: str, moved: int = 0) -> str:
    """The name of the version."""
    update = version_of(cell_id, moved=moved, store=store)
    store.publish(update.manifest, update.segments, update.manifest.parent)
    return update.manifest.version


def locate(replica: Replica, cell_id: str, **fields: object) -> httpx.Response:
    return replica.client.post("/locate", json=build_locate_body(cell_id, USER) | fields)


def cause(answer: httpx.Response) -> str:
    found: str = answer.json().get("cause", "")
    return found


def served(replica: Replica, cell_id: str) -> str:
    answer = locate(replica, cell_id)
    assert answer.status_code == 200, answer.text
    version: str = answer.json()["provenance"]["cellVersion"]
    return version


def wait_until_served(replica: Replica, cell_id: str, version: str) -> None:
    wait_until(lambda: served(replica, cell_id) == version, f"version {version} is not served")


def faults(replica: Replica) -> dict[str, str]:
    answer = replica.client.get("/cells")
    assert answer.status_code == 200, answer.text
    return {one["cellId"]: one["cause"] for one in answer.json().get("faults", [])}


def put_in_place(server: RedisServer, update: Update) -> None:
    """Makes a version current at one stroke, whatever is there: as a failover to another history does."""
    prefix, manifest = f"fingerpost:{{{update.manifest.cell.cell_id}}}:", update.manifest
    with server.client() as client, client.pipeline(transaction=True) as pipeline:
        for reference, data in zip(manifest.segments, update.segments, strict=True):
            pipeline.set(f"{prefix}segment:{reference.digest}", data)
        record = manifest.digest.encode() + b"\n" + manifest.to_bytes()
        pipeline.hset(f"{prefix}manifests", str(manifest.number), record)  # type: ignore[arg-type]
        pipeline.set(f"{prefix}current", f"{manifest.number} {manifest.digest} {'0' * 32}")
        pipeline.execute()


def test_a_version_that_was_lost_and_published_again_is_taken_and_so_is_a_lower_one(
    replica: Replica, store: Store, redis_server: RedisServer
) -> None:
    first, again = version_of("lost", store=store), version_of("lost", moved=3, store=store)
    assert (first.manifest.number, again.manifest.number) == (1, 1)
    put_in_place(redis_server, first)
    assert served(replica, "lost") == first.manifest.version
    put_in_place(redis_server, again)  # the same number, other contents
    wait_until_served(replica, "lost", again.manifest.version)
    second = publish(store, "lost", moved=1)
    wait_until_served(replica, "lost", second)
    put_in_place(redis_server, first)  # a lower number
    wait_until_served(replica, "lost", first.manifest.version)


def test_a_damaged_pointer_is_named_and_the_other_cells_are_followed(
    replica: Replica, store: Store, redis_server: RedisServer
) -> None:
    for name in ("sound", "torn"):
        version = publish(store, name)
        assert served(replica, name) == version
    pointer = "fingerpost:{torn}:current"
    with redis_server.client() as client:
        kept = client.get(pointer)
        client.set(pointer, "junk")
        next_one = publish(store, "sound", moved=1)
        wait_until_served(replica, "sound", next_one)
        wait_until(lambda: fault_metric(replica, "torn") == 1, "no metric names the damaged cell")
        assert faults(replica) == {"torn": "CELL_UNREADABLE"}
        listed = replica.client.get("/cells").json()
        assert (listed["unreadable"], "sound" in {one["cellId"] for one in listed["cells"]}) == (["torn"], True)
        assert "cell torn: CELL_UNREADABLE" in replica.log.read_text()
        assert replica.metric('fingerpost_cells_at_fault{cause="CELL_UNREADABLE"}') == 1
        assert served(replica, "torn")  # from memory
        client.set(pointer, kept or b"")
    wait_until(lambda: faults(replica) == {}, "the cell is whole again, and still named")
    assert fault_metric(replica, "torn") == 0


def fault_metric(replica: Replica, cell_id: str) -> float:
    return replica.metric(f'fingerpost_cell_fault{{cause="CELL_UNREADABLE",cell="{cell_id}"}}')


def test_damaged_fingerprints_are_named_until_another_version_replaces_them(
    replica: Replica, store: Store, redis_server: RedisServer
) -> None:
    publish(store, "rotten")
    with redis_server.client() as client:
        for key in client.scan_iter("fingerpost:{rotten}:segment:*"):
            client.set(key, "junk")
    answer = locate(replica, "rotten")
    assert (answer.status_code, answer.json()["cause"]) == (500, "CELL_UNREADABLE")
    assert faults(replica) == {"rotten": "CELL_UNREADABLE"}
    publish(store, "rotten", moved=1)
    wait_until(lambda: faults(replica) == {}, "the version is another one, and the cell is still named")
    wait_until(lambda: locate(replica, "rotten").status_code == 200, "the error is remembered for more than a moment")


def test_deadlines_hold_while_redis_hangs_and_unknown_cells_do_not_delay_a_cell_that_is_there(
    replica: Replica, store: Store, redis_server: RedisServer
) -> None:
    version = publish(store, "held")
    assert served(replica, "held") == version
    publish(store, "elsewhere")
    wait_until(lambda: replica.client.get("/cells/elsewhere").status_code == 200, "the cell is not there")
    redis_server.freeze()
    try:
        with ThreadPoolExecutor(60) as users:
            unknown = [users.submit(locate, replica, f"nowhere-{number}") for number in range(60)]
            # Now and then Redis has just failed to answer, and the service does not ask it again for a moment.
            wait_until(lambda: cause(locate(replica, "elsewhere", maxRespTime=0.3)) == TOO_LATE, "the deadline passed")
            assert served(replica, "held") == version
            batch = [build_locate_body("elsewhere", USER) | {"maxRespTime": 0.3}, build_locate_body("held", USER)]
            answers = replica.client.post("/locate/batch", json={"items": batch}).json()["results"]
            assert answers[0]["problem"]["cause"] in (TOO_LATE, "STORE_UNAVAILABLE"), answers
            assert "location" in answers[1], answers
            refused = [one.result() for one in unknown]
    finally:
        redis_server.thaw()
    assert {one.status_code for one in refused} == {503}
    assert all(int(one.headers["retry-after"]) >= 1 for one in refused)
    assert set(map(cause, refused)) <= {"NF_CONGESTION", "STORE_UNAVAILABLE"}
    wait_until(lambda: locate(replica, "elsewhere").status_code == 200, "Redis is back, and the cell is not served")


def test_a_dead_master_of_a_cluster_stops_only_its_own_cells(
    redis_cluster: RedisCluster, tiny_artifact: Path, tmp_path: Path
) -> None:
    empty(redis_cluster)
    store = open_store(redis_cluster.url)
    names = [f"cell-{number}" for number in range(6)]
    for name in names:
        publish(store, name)
    listing = next(node for node in redis_cluster.nodes if keys(node, "fingerpost:cells"))
    dead = next(node for node in redis_cluster.nodes if node is not listing and keys(node, "*:current"))
    lost = [name for name in names if keys(dead, f"fingerpost:{{{name}}}:current")]
    sound = next(name for name in names if name not in lost)
    with running(redis_cluster.url, tiny_artifact, tmp_path / "log") as replica:
        for name in (sound, lost[0]):
            assert served(replica, name)
        dead.kill()
        try:
            assert faults(replica) == dict.fromkeys(lost, "STORE_UNAVAILABLE")
            wait_until_served(replica, sound, publish(store, sound, moved=1))
            assert served(replica, lost[0])  # from memory
        finally:
            dead.start()
            redis_cluster.wait_until_whole()
        wait_until(lambda: faults(replica) == {}, "the master is back, and its cells are still named")
    store.close()


# redis-py leaves connections of nodes that it has dropped to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_a_dead_master_with_the_list_of_all_cells_hides_no_cell_of_the_others(
    redis_cluster: RedisCluster, tiny_artifact: Path, tmp_path: Path
) -> None:
    empty(redis_cluster)
    store = open_store(redis_cluster.url)
    names = [f"cell-{number}" for number in range(6)]
    for name in names:
        publish(store, name)
    dead = next(node for node in redis_cluster.nodes if keys(node, "fingerpost:cells"))
    lost = [name for name in names if keys(dead, f"fingerpost:{{{name}}}:current")]
    sound = [name for name in names if name not in lost]
    assert lost
    with running(redis_cluster.url, tiny_artifact, tmp_path / "log") as replica:
        assert "incomplete" not in replica.client.get("/cells").json()
        dead.kill()
        try:
            listed = replica.client.get("/cells")
            assert listed.status_code == 200, listed.text
            assert [one["cellId"] for one in listed.json()["cells"]] == sound
            assert (listed.json()["unreadable"], listed.json()["incomplete"]) == (lost, True)
            assert faults(replica) == dict.fromkeys(lost, "STORE_UNAVAILABLE")
            assert served(replica, sound[0])
            wait_until_served(replica, sound[0], publish(store, sound[0], moved=1))
        finally:
            dead.start()
            redis_cluster.wait_until_whole()
        wait_until(lambda: faults(replica) == {}, "the master is back, and its cells are still named")
        assert "incomplete" not in replica.client.get("/cells").json()
    store.close()
    gc.collect()


def keys(node: RedisServer, pattern: str) -> Sequence[bytes]:
    with node.client() as client:
        return list(client.scan_iter(pattern))


@pytest.mark.usefixtures("redis_here")
def test_a_replica_is_not_ready_before_it_has_reached_redis_once(tiny_artifact: Path, tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    server.stop()
    try:
        with running(server.url, tiny_artifact, tmp_path / "log") as replica:
            answer = replica.client.get("/health/ready")
            assert (answer.status_code, answer.json()["cause"]) == (503, "NOT_READY")
            assert "reference database" in answer.json()["detail"]
            assert replica.client.get("/health/live").status_code == 200
            server.start()
            wait_until(lambda: replica.client.get("/health/ready").status_code == 200, "Redis is there: not ready")
            server.stop()
            assert replica.client.get("/health/ready").status_code == 200  # cells in memory are served
    finally:
        server.kill()


def test_a_replica_without_its_directory_is_not_ready_and_takes_a_first_import(
    tiny_artifact: Path, tmp_path: Path
) -> None:
    with running(tmp_path / "nowhere", tiny_artifact, tmp_path / "log", follow_period_s=NEVER_S) as replica:
        assert replica.client.get("/health/ready").status_code == 503
        assert locate(replica, "changing").status_code == 404
        assert changing_cell.replacement(1).send(replica.client).status_code == 201
        assert locate(replica, "changing").status_code == 200  # at once: that there was none is forgotten
        assert replica.client.get("/health/ready").status_code == 200


def test_a_read_that_blocks_does_not_keep_the_process_from_ending(tiny_artifact: Path, tmp_path: Path) -> None:
    database, log = tmp_path / "database", tmp_path / "log"
    with running(database, tiny_artifact, log, exit_status=1, drain_s=0, shutdown_s=1) as replica:
        assert changing_cell.replacement(1).send(replica.client).status_code == 201
        version = database / "cells" / "changing" / "versions" / "0000000001"
        (version / "manifest.json").unlink()
        os.mkfifo(version / "manifest.json")
        with ThreadPoolExecutor(1) as operator:
            answer = operator.submit(replica.client.get, "/cells/changing")
            writing = opened_by_a_reader(version / "manifest.json")
            replica.process.send_signal(signal.SIGTERM)
            assert replica.process.wait(60) == 1
            assert answer.exception() is not None or answer.result().status_code >= 500
            os.close(writing)
    assert "still work" in log.read_text()


def opened_by_a_reader(fifo: Path) -> int:
    """Returns a descriptor for writing as soon as another process reads, which then waits for data."""
    found: list[int] = []

    def opened() -> bool:
        try:
            found.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # no reader yet
            return False
        return True

    wait_until(opened, "nothing reads the file")
    return found[0]
