"""A running service, and the process in which it examines versions."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fingerpost import build_locate_body
from reference_db import DirectoryStore, import_fingerprints, write_fingerprint_file
from tests.redis_servers import GUARD_S, RedisServer, redis_server_binary, wait_until
from tests.service.examining.test_examiner import CELL, fingerprints
from tests.service.replicas import Replica, running
from tests.service.tiny_cell import ORIGIN
from tests.service.workers.running import is_alive

FILE = {"Content-Type": "application/octet-stream"}


def file_of(folder: Path, n: int, seed: int) -> bytes:
    path = folder / f"{seed}.safetensors"
    write_fingerprint_file(path, CELL, fingerprints(n, seed))
    return path.read_bytes()


def examiners(replica: Replica) -> list[psutil.Process]:
    children = psutil.Process(replica.process.pid).children()
    return [one for one in children if is_alive(one) and "service.examining.child" in one.cmdline()]


@pytest.fixture(params=["directory", "redis"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str | Path]:
    if request.param == "directory":
        (tmp_path / "database").mkdir()
        yield tmp_path / "database"
        return
    if redis_server_binary() is None:
        pytest.skip("there is no redis-server")
    server = RedisServer(tmp_path / "redis")
    yield server.url
    server.kill()


def test_changes_are_examined_in_a_process_that_is_replaced_when_it_was_killed(
    database: str | Path, tiny_artifact: Path, tmp_path: Path
) -> None:
    with running(database, tiny_artifact, tmp_path / "log") as replica:
        assert examiners(replica) == []
        made = replica.client.put("/cells/plane", content=file_of(tmp_path, 600, 1), headers=FILE)
        assert made.status_code == 201, made.text
        (examiner,) = examiners(replica)
        examiner.kill()
        wait_until(lambda: replica.metric("fingerpost_examiner_failures_total") == 1, "its end is not noticed")
        appended = replica.client.post("/cells/plane/fingerprints", content=file_of(tmp_path, 30, 2), headers=FILE)
        assert appended.status_code == 200, appended.text
        assert appended.json()["fingerprints"] == 630
        (examiner,) = examiners(replica)
        assert replica.metric("fingerpost_examiner_starts_total") == 2
    wait_until(lambda: not is_alive(examiner), "the examiner goes on without its service")
    assert "the process that examines versions of cells was killed" in (tmp_path / "log").read_text()


def test_a_cell_without_a_calibration_is_calibrated_there_for_its_first_user(
    tiny_artifact: Path, tmp_path: Path
) -> None:
    store = DirectoryStore(tmp_path / "database")
    import_fingerprints(store, CELL, fingerprints(60, 1), {}, ORIGIN)
    with running(tmp_path / "database", tiny_artifact, tmp_path / "log") as replica:
        assert examiners(replica) == []
        user = build_locate_body("plane", fingerprints(1, 7).csi[0]) | {"maxRespTime": GUARD_S}
        answer = replica.client.post("/locate", json=user)
        assert answer.status_code == 200, answer.text
        assert len(examiners(replica)) == 1
