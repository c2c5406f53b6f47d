"""Truths over HTTP, with a network that answers the middle of the neighbourhood and states 30.5 m."""

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from fingerpost import build_locate_body
from fingerpost.wire_truths import TruthReport, TruthsResponse
from reference_db import import_fingerprints, open_store
from service.locating.answers import Answer
from service.settings import Settings
from tests.redis_servers import RedisServer, empty
from tests.service.replicas import NEVER_S
from tests.service.running import running
from tests.service.tiny_cell import ORIGIN, tiny_cell
from tests.service.tiny_service import added_key, bearing, make_tiny_settings
from tests.service.updates.wire import DESCRIPTION, Json, assert_problem, on_a_line, sent

pytestmark = pytest.mark.anyio
PATH = "/cells/c/truths"
PATIENT = {"queue_limit_s": NEVER_S, "standing_queue_s": NEVER_S}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    knobs = {"answer_ttl_s": 60.0, "batch_limit": 20, "body_limit_bytes": 2**20, "cell_series": 1}
    return make_tiny_settings(tmp_path, **knobs, **PATIENT)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with running(settings) as client:
        yield client


def truths(first: int, last: int, north: float = 0.4, **changed: Any) -> list[Json]:
    """One a metre on a line so far north of the fingerprints, with CSI of their own."""
    csi = [one["csi"] for one in sent(on_a_line(first + 1000, last + 1000))]
    rows = zip(sent(on_a_line(first, last, north)), csi, strict=True)
    return [one | {"csi": measured} | changed for one, measured in rows]


async def post(client: httpx.AsyncClient, items: list[Json], query: str = "", **options: Any) -> TruthsResponse:
    response = await client.post(PATH + query, json={"items": items}, **options)
    assert response.status_code == 200, response.text
    return TruthsResponse.model_validate_json(response.content)


async def report(client: httpx.AsyncClient, query: str = "") -> TruthReport:
    response = await client.get(PATH + query)
    assert response.status_code == 200, response.text
    return TruthReport.model_validate_json(response.content)


def causes(answer: TruthsResponse) -> list[str | None]:
    return [None if one.problem is None else one.problem.cause for one in answer.results]


async def test_each_truth_has_the_score_of_the_answer_that_a_user_gets(client: httpx.AsyncClient) -> None:
    items = truths(5, 8)
    answer = await post(client, items)
    assert answer.counted == 3
    for item, result in zip(items, answer.results, strict=True):
        located = await client.post("/locate", json={"cellId": "c", "csi": item["csi"]})
        local, score = located.json()["localLocationEstimate"], result.score
        assert score is not None
        assert (score.east, score.north) == (
            pytest.approx(local["point"]["x"] - item["x"]),
            pytest.approx(local["point"]["y"] - item["y"]),
        )
        assert (score.confidence, score.h_accuracy) == (local["confidence"], located.json()["hAccuracy"])
        assert (score.source, score.cell_version) == ("mateformer", located.json()["provenance"]["cellVersion"])
        assert score.inside
        assert score.counted


async def test_a_coarse_position_is_used_as_for_a_user(client: httpx.AsyncClient) -> None:
    coarse = {"x": 21.0, "y": 0.0, "hAccuracy": 1.0}
    (item,) = truths(20, 21)
    located = await client.post("/locate", json={"cellId": "c", "csi": item["csi"], "coarsePosition": coarse})
    assert located.json()["provenance"]["coarsePositionUsed"]
    (result,) = (await post(client, [item | {"coarsePosition": coarse}])).results
    assert result.score is not None
    assert result.score.h_accuracy == located.json()["hAccuracy"]


async def test_a_bad_truth_has_a_problem_of_its_own_and_the_others_count(client: httpx.AsyncClient) -> None:
    good, *rest = truths(0, 9)
    future = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    wrong_shape = build_locate_body("c", on_a_line(0, 1).csi[0][:2])["csi"]
    rest[0] |= {"y": 500.0}
    rest[1] |= {"sigma": 11.0}
    del rest[2]["x"]
    rest[3] |= {"csi": wrong_shape}
    rest[4] |= {"time": future}
    rest[5] = {name: value for name, value in rest[5].items() if name != "csi"}
    rest[6] = rest[5] | {"requestId": "never asked"}
    rest[7] |= {"lattitude": 43.0}
    answer = await post(client, [good, *rest])
    assert causes(answer) == [
        None,
        "TRUTH_OUTSIDE_CELL",
        "MANDATORY_IE_INCORRECT",
        "MANDATORY_IE_INCORRECT",
        "CSI_SHAPE_MISMATCH",
        "TIMESTAMP_IMPLAUSIBLE",
        "MANDATORY_IE_MISSING",
        "ANSWER_NOT_REMEMBERED",
        "UNKNOWN_FIELD",
    ]
    problem = answer.results[2].problem
    assert problem is not None
    assert problem.invalid_params is not None
    assert problem.invalid_params[0].param == "/sigma"
    assert answer.counted == 1
    total = (await report(client)).total
    assert total is not None
    assert total.truths == 1


async def test_a_truth_that_is_worse_than_the_stated_accuracy_does_not_count(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Sharp:  # the tiny network states too large ellipses for this
        @staticmethod
        def of(answer: Answer) -> Any:
            return of(answer)._replace(semi_major=0.2, semi_minor=0.2)

    from service.truths import scorer

    of = scorer.GivenAnswer.of
    monkeypatch.setattr(scorer, "GivenAnswer", Sharp)
    assert causes(await post(client, truths(0, 1, sigma=0.3))) == ["TRUTH_TOO_COARSE"]


async def test_a_truth_counts_once_for_each_version(client: httpx.AsyncClient) -> None:
    items = truths(0, 4)
    assert [(await post(client, items)).counted for _ in range(2)] == [4, 0]
    await client.post("/cells/c/fingerprints", json={"fingerprints": sent(on_a_line(40, 45))})
    await _served(client, "2-")
    assert (await post(client, items)).counted == 4
    found = await report(client)
    assert [(one.version[:2], one.truths) for one in found.versions] == [("2-", 4), ("1-", 4)]


async def _served(client: httpx.AsyncClient, version: str) -> None:
    """Waits until users are located in this version."""
    while True:
        located = await client.post("/locate", json={"cellId": "c", "csi": truths(0, 1)[0]["csi"]})
        if located.json()["provenance"]["cellVersion"].startswith(version):
            return
        await asyncio.sleep(0.05)


async def test_the_report_adds_up_what_was_sent(client: httpx.AsyncClient) -> None:
    assert (await report(client)).total is None
    answer = await post(client, [*truths(0, 8), *truths(0, 8, north=49.0)])
    scores = [one.score for one in answer.results if one.score is not None]
    found = await report(client, "?days=1")
    total = found.total
    assert total is not None
    assert (total.truths, total.inside) == (16, sum(one.inside for one in scores))
    assert 0 < total.inside < 16
    assert total.mean_error == pytest.approx(sum(one.error for one in scores) / 16)
    assert total.bias.east == pytest.approx(sum(one.east for one in scores) / 16)
    assert [one.day for one in found.days] == [datetime.now(UTC).date()]
    assert total.proposed == len(answer.proposed)


async def test_counts_survive_a_restart(settings: Settings) -> None:
    async with running(settings) as client:
        await post(client, truths(0, 3))
    async with running(settings) as client:
        total = (await report(client)).total
        assert total is not None
        assert total.truths == 3
        assert (await post(client, truths(0, 3))).counted == 0


async def test_damaged_counts_keep_no_user_from_an_answer(settings: Settings) -> None:
    async with running(settings) as client:
        (settings.database_directory / "cells" / "c" / "truths.json").write_text("{")
        for answer in (await client.get(PATH), await client.post(PATH, json={"items": truths(0, 1)})):
            assert_problem(answer, 500, "CELL_UNREADABLE")
            assert "truths" in answer.json()["detail"]
        assert (await client.post("/locate", json={"cellId": "c", "csi": truths(0, 1)[0]["csi"]})).status_code == 200


@pytest.mark.parametrize("store", ["directory", "redis"])
async def test_two_replicas_at_once_lose_nothing(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    settings = make_tiny_settings(tmp_path, **PATIENT)
    if store == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        empty(server)
        settings = settings.model_copy(update={"redis_url": server.url})
        opened = open_store(server.url)
        import_fingerprints(opened, tiny_cell(), on_a_line(0, 40), {}, ORIGIN)
        opened.close()
    async with running(settings) as one, running(settings) as other:
        await asyncio.gather(*(post(client, truths(0, 1)) for client in (one, other)))  # the cell is in memory then
        sizes = range(1, 9)
        answers = await asyncio.gather(
            *(
                post(client, truths(size, 2 * size, north=1.0 + number + size / 50))
                for size in sizes
                for number, client in enumerate((one, other))
            )
        )
        assert [answer.counted for answer in answers] == [size for size in sizes for _ in range(2)]
        for client in (one, other):
            total = (await report(client)).total
            assert total is not None
            assert total.truths == 1 + 2 * sum(sizes)


async def test_a_proposal_is_accepted_by_one_word(client: httpx.AsyncClient) -> None:
    items = truths(0, 8, north=3.0)
    before = (await client.get("/cells/c")).json()
    answer = await post(client, items)
    assert answer.proposed == list(range(8))
    assert answer.results[0].score is not None
    assert "FAR_FROM_FINGERPRINTS" in (answer.results[0].score.reasons or [])
    assert answer.version is None
    unchanged = (await client.get("/cells/c")).json()["version"]
    assert unchanged == before["version"]  # nothing is appended without an explicit act
    accepted = await post(client, items, "?append=proposed&author=ann&note=van")
    after = (await client.get("/cells/c")).json()
    assert after["version"] == accepted.version
    assert (after["fingerprints"], after["change"]["action"]) == (before["fingerprints"] + 8, "appended")
    assert (after["change"]["author"], after["change"]["note"]) == ("ann", "van")
    await _served(client, "2-")
    again = await post(client, items, "?append=proposed")
    assert causes(again) == ["TRUTH_IS_FINGERPRINT"] * 8  # they would judge themselves
    assert (again.proposed, again.version) == ([], None)


async def test_proposed_truths_are_fingerprints_for_the_usual_route_too(client: httpx.AsyncClient) -> None:
    items = truths(0, 2, north=3.0)
    proposed = [items[number] for number in (await post(client, items)).proposed]
    response = await client.post("/cells/c/fingerprints", json={"fingerprints": proposed})
    assert response.status_code == 200, response.text
    await _served(client, "2-")
    assert causes(await post(client, items)) == ["TRUTH_IS_FINGERPRINT"] * 2


async def test_a_refused_proposal_changes_no_version(client: httpx.AsyncClient) -> None:
    response = await client.post(
        f"{PATH}?append=proposed", json={"items": truths(0, 2, north=3.0)}, headers={"If-Match": "9-ab"}
    )
    assert_problem(response, 412, "PRECONDITION_FAILED")
    assert (await client.get("/cells/c")).json()["version"].startswith("1-")


async def test_the_answer_that_was_given_is_scored(client: httpx.AsyncClient) -> None:
    (item,) = truths(20, 21)
    csi = item.pop("csi")
    fix = {"x": 20.0, "y": 0.0, "hAccuracy": 1.0}
    body = {"cellId": "c", "csi": csi, "coarsePosition": fix, "requestId": "a"}
    located = (await client.post("/locate", json=body)).json()
    answer = await post(client, [item | {"requestId": "a"}, item | {"requestId": "a", "csi": csi, "y": 0.5}])
    assert causes(answer) == [None, None]
    score = answer.results[0].score
    assert score is not None
    point = located["localLocationEstimate"]["point"]
    assert (score.east, score.h_accuracy) == (pytest.approx(point["x"] - 20.0), located["hAccuracy"])
    without_fix = (await post(client, [item | {"csi": csi}])).results[0].score
    assert without_fix is not None
    assert without_fix.h_accuracy != score.h_accuracy


async def test_the_same_truth_with_another_fix_is_another_one(client: httpx.AsyncClient) -> None:
    (item,) = truths(20, 21)
    fixes = [{"coarsePosition": {"x": x, "y": 0.0, "hAccuracy": 1.0}} for x in (20.0, 21.0, 20.0)]
    assert (await post(client, [item, *(item | fix for fix in fixes)])).counted == 3


async def test_answers_of_a_batch_are_remembered_too(client: httpx.AsyncClient) -> None:
    users = [{"cellId": "c", "csi": one["csi"], "requestId": str(x)} for x, one in enumerate(truths(0, 3))]
    await client.post("/locate/batch", json={"items": users})
    items = [{"x": float(x), "y": 0.4, "sigma": 0.05, "requestId": str(x)} for x in range(3)]
    assert (await post(client, items)).counted == 3


async def test_answers_belong_to_the_key_that_asked(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    sender, operator = (added_key(file, [scope]) for scope in ("locate", "operate"))
    async with running(make_tiny_settings(tmp_path, keys_file=file, answer_ttl_s=60.0)) as client:
        (item,) = truths(20, 21)
        body = {"cellId": "c", "csi": item.pop("csi"), "requestId": "a"}
        assert (await client.post("/locate", json=body, headers=bearing(sender))).status_code == 200
        item |= {"requestId": "a"}
        assert causes(await post(client, [item], headers=bearing(operator))) == ["ANSWER_NOT_REMEMBERED"]
        key_id = sender.split("_")[1]
        assert causes(await post(client, [item], f"?keyId={key_id}", headers=bearing(operator))) == [None]
        refused = await client.post(PATH, json={"items": [item]}, headers=bearing(sender))
        assert_problem(refused, 403, "SCOPE_MISSING")


async def test_no_answer_is_kept_unless_the_settings_say_so(tmp_path: Path) -> None:
    async with running(make_tiny_settings(tmp_path, **PATIENT)) as client:
        (item,) = truths(20, 21)
        await client.post("/locate", json={"cellId": "c", "csi": item.pop("csi"), "requestId": "a"})
        (result,) = (await post(client, [item | {"requestId": "a"}])).results
        assert result.problem is not None
        assert "FINGERPOST_ANSWER_TTL_S" in result.problem.detail


async def test_another_replica_scores_the_answer_that_redis_remembers(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    empty(redis_server)
    settings = make_tiny_settings(tmp_path, redis_url=redis_server.url, answer_ttl_s=60.0)
    store = open_store(redis_server.url)
    import_fingerprints(store, tiny_cell(), on_a_line(0, 40), {}, ORIGIN)
    store.close()
    (item,) = truths(20, 21)
    body = {"cellId": "c", "csi": item.pop("csi"), "requestId": "a"}
    async with running(settings) as one, running(settings) as other:
        assert (await one.post("/locate", json=body)).status_code == 200
        while causes(await post(other, [item | {"requestId": "a"}])) != [None]:
            await asyncio.sleep(0.05)


async def test_a_batch_has_a_limit_and_a_body_too(client: httpx.AsyncClient) -> None:
    too_many = await client.post(PATH, json={"items": truths(0, 21)})
    assert_problem(too_many, 400, "BATCH_TOO_LARGE", "/items")
    too_long = await client.post(PATH, content=b"x" * (2**20 + 1), headers={"content-type": "application/json"})
    assert_problem(too_long, 413, "BODY_TOO_LARGE")
    assert_problem(await client.post(PATH, json={"items": []}), 400, "MANDATORY_IE_INCORRECT", "/items")
    assert (await report(client)).total is None


async def test_an_unknown_cell_has_no_truths(client: httpx.AsyncClient) -> None:
    for answer in (
        await client.post("/cells/nowhere/truths", json={"items": truths(0, 1)}),
        await client.get("/cells/nowhere/truths"),
    ):
        assert_problem(answer, 404, "CELL_NOT_FOUND", "/cellId")
    assert_problem(await client.get(f"{PATH}?days=0"), 400, "MANDATORY_IE_INCORRECT", "query days")
    assert_problem(await client.post(f"{PATH}?append=all", json={}), 400, "MANDATORY_IE_INCORRECT", "query append")


async def test_msgpack_is_as_good_as_json(client: httpx.AsyncClient) -> None:
    items = truths(0, 2)
    raw = [one | {"csi": one["csi"] | {"data": b64decode(one["csi"]["data"])}} for one in items]
    packed = msgspec.msgpack.encode({"items": raw})
    response = await client.post(PATH, content=packed, headers={"content-type": "application/msgpack"})
    answer = TruthsResponse.model_validate_json(response.content)
    assert answer.counted == 2
    assert (await post(client, items)).counted == 0


async def test_truths_are_counted_in_the_metrics_and_are_no_users(client: httpx.AsyncClient) -> None:
    wrong = truths(0, 1, north=500.0)[0]
    answer = await post(client, [*truths(0, 8), *truths(0, 8, north=49.0), truths(0, 1)[0], wrong])
    inside = sum(one.score.inside for one in answer.results[:16] if one.score is not None)
    assert 0 < inside < 16
    lines = (await client.get("/metrics")).text.splitlines()
    counts = {"inside": inside, "outside": 16 - inside, "repeated": 1, "refused": 1}
    for outcome, count in counts.items():
        assert f'fingerpost_truths_total{{outcome="{outcome}"}} {count:.1f}' in lines
    assert f'fingerpost_cell_truths_total{{cell="c",outcome="inside"}} {inside:.1f}' in lines
    located = [line for line in lines if line.startswith("fingerpost_locations_total{")]
    assert all(line.endswith(" 0.0") for line in located)


async def test_a_contradiction_is_shown_until_it_is_over(client: httpx.AsyncClient) -> None:
    name = 'fingerpost_cell_coverage_contradicted{cell="c"} 1.0'
    await post(client, truths(0, 10, north=49.0))
    assert name in (await client.get("/metrics")).text.splitlines()
    await client.delete("/cells/c?force=true")
    await client.put("/cells/c", json={"cell": DESCRIPTION, "fingerprints": sent(on_a_line(0, 40))})
    await post(client, truths(0, 3))
    assert name not in (await client.get("/metrics")).text.splitlines()
