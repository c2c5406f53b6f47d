"""Operators' changes over real HTTP, of cells that users are located in meanwhile, in every store."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.redis_servers import empty
from tests.service import changing_cell
from tests.service.replicas import NEVER_S, Replica, running
from tests.service.updates_under_load import change_under_load

PUBLISHES = 25  # in each store


@pytest.fixture(params=["directory", "redis_server"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "directory":
        return str(tmp_path / "database")
    server = request.getfixturevalue("redis_server")
    empty(server)
    return server.url


@pytest.fixture
def replicas(database: str, tiny_artifact: Path, tmp_path: Path) -> Iterator[list[Replica]]:
    """Two on one database, neither of which looks by itself for what the other does."""
    with (
        running(database, tiny_artifact, tmp_path / "1.log", follow_period_s=NEVER_S) as one,
        running(database, tiny_artifact, tmp_path / "2.log", follow_period_s=NEVER_S) as other,
    ):
        yield [one, other]


def test_every_answer_belongs_to_one_version(database: str, tiny_artifact: Path, tmp_path: Path) -> None:
    outcome = change_under_load(database, tiny_artifact, PUBLISHES, tmp_path)
    assert outcome.seen >= PUBLISHES // 5


def test_of_two_writers_at_once_one_wins_and_nothing_is_lost(replicas: list[Replica]) -> None:
    """Each round both have seen the same version: at one replica, then at two."""
    clients = [replica.client for replica in replicas]
    created = changing_cell.replacement(1).send(clients[0], if_none_match="*")
    assert created.status_code == 201, created.text
    seen, held = created.json()["version"], len(changing_cell.GRID)
    with ThreadPoolExecutor(2) as writers:
        for turn in range(1, 7):
            numbers = (10 * turn, 10 * turn + 1)
            asked = clients if turn % 2 else clients[:1] * 2
            answers = list(writers.map(append, asked, numbers, [seen, seen]))
            (won,) = [one for one in answers if one.status_code == 200]
            (lost,) = [one for one in answers if one is not won]
            assert (lost.status_code, lost.json()["cause"]) == (412, "PRECONDITION_FAILED")
            assert won.json()["parent"] is not None
            seen, held = won.json()["version"], held + changing_cell.USERS
            assert {replica.version("changing") for replica in replicas} == {seen}
            assert clients[0].get("/cells/changing").json()["fingerprints"] == held
    summaries = clients[1].get("/cells/changing/versions").json()["versions"]
    assert [one["number"] for one in summaries] == list(range(7, 0, -1))


def append(client: httpx.Client, number: int, seen: str) -> httpx.Response:
    return changing_cell.addition(number, base=1).send(client, if_match=f'"{seen}"')
