"""Deleted cells and forgotten fingerprints, on two replicas that share a reference database."""

from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.redis_servers import RedisServer, empty, wait_until
from tests.service import changing_cell
from tests.service.replicas import NEVER_S, Replica, running

_FORCED = {"force": "true"}


class Pair(NamedTuple):
    """Two replicas that both locate users in the first version of a cell, and how many cells each held before."""

    one: Replica
    other: Replica
    cell_id: str
    held: int

    @property
    def path(self) -> str:
        return f"/cells/{self.cell_id}"


@pytest.fixture(scope="module", params=["directory", "redis_server"])
def replicas(
    request: pytest.FixtureRequest, tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Replica, Replica]]:
    folder = tmp_path_factory.mktemp("replicas")
    address, period_s = str(folder / "database"), 0.1
    if request.param == "redis_server":
        server: RedisServer = request.getfixturevalue("redis_server")
        empty(server)
        address, period_s = server.url, NEVER_S  # it announces versions
    with (
        running(address, tiny_artifact, folder / "1.log") as one,
        running(address, tiny_artifact, folder / "2.log", follow_period_s=period_s) as other,
    ):
        yield one, other


@pytest.fixture
def pair(replicas: tuple[Replica, Replica], request: pytest.FixtureRequest) -> Pair:
    one, other = replicas
    held = {replica.metric("fingerpost_cells_held") for replica in replicas}
    pair = Pair(one, other, sha256(request.node.name.encode()).hexdigest()[:12], int(held.pop()))
    created = changing_cell.replacement(1, pair.cell_id).send(one.client)
    assert created.status_code == 201, created.text
    for replica in replicas:
        assert _locate(replica, pair).json()["provenance"]["cellVersion"] == created.json()["version"]
    return pair


def _locate(replica: Replica, pair: Pair | None = None) -> httpx.Response:
    user = changing_cell.request_bodies("changing" if pair is None else pair.cell_id)[0]
    return replica.client.post("/locate", content=user, headers={"Content-Type": "application/json"})


def _wait_for_both(pair: Pair, reached: Callable[[httpx.Response], bool], complaint: str) -> None:
    for replica in (pair.one, pair.other):
        wait_until(lambda replica=replica: reached(_locate(replica, pair)), complaint)


def _wait_until_dropped(pair: Pair) -> None:
    for replica in (pair.one, pair.other):
        wait_until(
            lambda replica=replica: replica.metric("fingerpost_cells_held") == pair.held, "the cell is still in memory"
        )


def _version(answer: httpx.Response) -> str:
    version: str = answer.json().get("provenance", {}).get("cellVersion", "")
    return version


def _cause(answer: httpx.Response) -> str:
    cause: str = answer.json().get("cause", "")
    return cause


def test_a_deleted_cell_is_served_nowhere_and_a_new_one_of_its_name_everywhere(pair: Pair) -> None:
    deleted = pair.one.client.delete(pair.path, headers={"If-Match": "*"})
    assert deleted.status_code == 200, deleted.text
    _wait_for_both(pair, lambda answer: _cause(answer) == "CELL_NOT_FOUND", "a deleted cell is still served")
    _wait_until_dropped(pair)
    for replica in (pair.one, pair.other):
        assert pair.cell_id not in {cell["cellId"] for cell in replica.client.get("/cells").json()["cells"]}
    created = changing_cell.replacement(2, pair.cell_id).send(pair.other.client)
    assert created.status_code == 201, created.text
    _wait_for_both(pair, lambda answer: _version(answer) == created.json()["version"], "the new cell is not served")
    assert created.json()["version"].startswith("1-")


def test_a_cell_deleted_and_created_anew_at_once_replaces_the_old_one(pair: Pair) -> None:
    pair.one.client.delete(pair.path, params=_FORCED).raise_for_status()
    created = changing_cell.replacement(3, pair.cell_id).send(pair.one.client).json()["version"]
    assert created.startswith("1-")  # as the version before
    _wait_for_both(pair, lambda answer: _version(answer) == created, "the old cell is still served")


def test_forgotten_fingerprints_leave_the_memory_of_every_replica_even_if_the_cell_is_then_too_small(
    pair: Pair,
) -> None:
    listed = pair.other.client.get(f"{pair.path}/fingerprints").json()["fingerprints"]
    path = f"{pair.path}/fingerprints/forget"
    forgotten = pair.one.client.post(path, json={"ids": [listed[0]["id"]]}, params=_FORCED)
    assert forgotten.status_code == 200, forgotten.text
    version = forgotten.json()["version"]
    _wait_for_both(pair, lambda answer: _version(answer) == version, "the fingerprint is still served")
    too_many = pair.one.client.post(path, json={"ids": [each["id"] for each in listed[3:]]}, params=_FORCED)
    assert too_many.json()["fingerprints"] == 2, too_many.text
    _wait_for_both(
        pair, lambda answer: _cause(answer) == "POSITIONING_METHOD_FAILURE", "forgotten fingerprints are still served"
    )
    _wait_until_dropped(pair)


def test_replicas_serve_on_if_redis_loses_its_data(
    redis_server: RedisServer, tiny_artifact: Path, tmp_path: Path
) -> None:
    empty(redis_server)
    with running(redis_server.url, tiny_artifact, tmp_path / "log", follow_period_s=0.1) as replica:
        version = changing_cell.replacement(1).send(replica.client).json()["version"]
        assert _locate(replica).json()["provenance"]["cellVersion"] == version
        empty(redis_server)
        wait_until(lambda: f"stays at version {version}" in replica.log.read_text(), "the loss is not noticed")
        assert _locate(replica).json()["provenance"]["cellVersion"] == version
