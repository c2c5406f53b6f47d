"""The last answers of each API key, in this process and in Redis."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from fingerpost import Csi, LocateRequest, LwlmProvenance
from fingerpost.wire_provenance import ArtifactReference
from models.artifact import Scales
from reference_db import LocalFrame
from service.errors import AnswersUnavailable
from service.locating.answers import answer_user
from service.locating.estimates import Location, Uncertainty
from service.locating.recent_answers import AnswerName, GivenAnswer, MemoryRecentAnswers, RecentAnswers, name_answers
from service.locating.redis_recent_answers import RedisRecentAnswers
from tests.redis_servers import RedisServer, RedisServers, empty, keys_of, wait_until
from tests.service.tiny_cell import tiny_cell

pytestmark = pytest.mark.anyio
LIMIT = 3


def answer_at(x: float) -> GivenAnswer:
    return GivenAnswer(x, 0.0, 2.0, 1.0, 30, 95, "mateformer", "1-ab", "digest")


def name(request_id: str, owner: str = "one", cell_id: str = "c") -> AnswerName:
    return AnswerName(cell_id, owner, request_id)


@pytest.fixture(params=["memory", "redis_server", "redis_cluster"])
def answers(request: pytest.FixtureRequest) -> Iterator[RecentAnswers]:
    if request.param == "memory":
        answers: RecentAnswers = MemoryRecentAnswers(60.0, LIMIT)
    else:
        servers: RedisServers = request.getfixturevalue(request.param)
        empty(servers)
        answers = RedisRecentAnswers(servers.url, 60.0, LIMIT, 64)
    yield answers
    answers.close()


async def found(answers: RecentAnswers, *names: AnswerName) -> list[float | None]:
    """Where the users were answered to be; Redis takes notes in a thread, in their order."""
    while await answers.find(names[-1:]) == [None]:
        await asyncio.sleep(0.01)
    return [None if one is None else one.x for one in await answers.find(names)]


async def test_the_last_answer_of_a_name_is_found(answers: RecentAnswers) -> None:
    answers.note({name("a"): answer_at(1.0), name("b"): answer_at(2.0)})
    answers.note({name("a"): answer_at(3.0), name("last"): answer_at(4.0)})
    assert await found(answers, name("never"), name("b"), name("a"), name("last")) == [None, 2.0, 3.0, 4.0]


async def test_owners_and_cells_do_not_share_names(answers: RecentAnswers) -> None:
    answers.note({name("a"): answer_at(1.0)})
    answers.note({name("a", "other"): answer_at(2.0), name("a", cell_id="d"): answer_at(3.0)})
    expected = [1.0, 2.0, 3.0]
    assert await found(answers, name("a"), name("a", "other"), name("a", cell_id="d")) == expected
    assert await answers.find([name("a", "other", "d")]) == [None]


async def test_the_oldest_answers_of_an_owner_go(answers: RecentAnswers) -> None:
    answers.note({name("a", "other"): answer_at(9.0)})
    for number in range(LIMIT + 2):
        answers.note({name(str(number)): answer_at(number)})
    names = [name(str(number)) for number in range(LIMIT + 2)]
    assert await found(answers, name("a", "other"), *names) == [9.0, None, None, 2.0, 3.0, 4.0]


async def test_answers_are_forgotten_after_their_time(redis_server: RedisServer) -> None:
    empty(redis_server)
    memory, redis = MemoryRecentAnswers(0.05, LIMIT), RedisRecentAnswers(redis_server.url, 0.05, LIMIT, 64)
    for answers in (memory, redis):
        answers.note({name("a"): answer_at(1.0)})
    await asyncio.sleep(0.1)
    await memory.forget_old()
    assert len(memory) == 0
    redis.close()
    wait_until(lambda: not keys_of(redis_server), "an answer stays in Redis")


async def test_names_and_keys_of_people_do_not_reach_redis(redis_server: RedisServer) -> None:
    empty(redis_server)
    redis = RedisRecentAnswers(redis_server.url, 60.0, LIMIT, 64)
    redis.note({name("person", "owner"): answer_at(1.0)})
    redis.close()
    with redis_server.client() as client:
        kept = b"".join(one + (client.get(one) or b"") for one in client.scan_iter(match="*:answer:*"))
    assert kept
    assert b"person" not in kept
    assert b"owner" not in kept


async def test_without_redis_nobody_waits_and_nothing_is_found(tmp_path: Path, redis_here: None) -> None:
    server = RedisServer(tmp_path / "redis")
    redis = RedisRecentAnswers(server.url, 60.0, LIMIT, 64)
    server.kill()
    for _ in range(100):
        redis.note({name("a"): answer_at(1.0)})
    with pytest.raises(AnswersUnavailable):
        await redis.find([name("a")])
    redis.close()


class Located(NamedTuple):
    request: LocateRequest
    location: Location


def test_only_answers_with_a_request_id_have_a_name_and_the_ellipse_is_that_of_the_service() -> None:
    cell = tiny_cell()
    provenance = LwlmProvenance(
        artifact=ArtifactReference(name="lwlm", version="1", digest="digest"), cell_version="1-ab"
    )
    uncertainty = Uncertainty(np.diag([1.0, 4.0]), Scales(factors={50: 0.1, 95: 1.0}))
    frame = LocalFrame(cell.latitude_deg, cell.longitude_deg)
    location = Location(np.array([1.0, 0.0]), cell, frame, uncertainty, provenance, provenance.model_dump())
    csi = Csi(encoding="complex64", shape=[1, 1], data=b"12345678")
    asked = {"confidence": 50, "supported_gad_shapes": ["POINT"]}
    answers = [
        answer_user(Located(LocateRequest(cell_id="c", csi=csi, **fields), location), 95, datetime.now(UTC))
        for fields in (asked | {"request_id": "a"}, asked)
    ]
    expected = answer_at(1.0)._replace(orientation_deg=0, source="lwlm")
    assert name_answers("one", answers) == {name("a"): expected}
