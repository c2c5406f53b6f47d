"""Where users are located is kept for who watches, and for nobody else."""

from pathlib import Path

import httpx
import pytest

from service.locating import live
from service.settings import Settings
from tests.service.running import running, tiny_request, tiny_service


@pytest.mark.anyio
async def test_nobody_may_watch_unless_the_settings_allow_it(tmp_path: Path) -> None:
    settings = tiny_service(tmp_path)
    assert not settings.console_live
    async with running(settings) as client:
        answer = await client.get("/cells/c/live")
    assert (answer.status_code, answer.json()["cause"]) == (403, "WATCHING_FORBIDDEN")


@pytest.mark.anyio
async def test_estimates_are_kept_from_the_first_question_on(watched: Settings) -> None:
    async with running(watched) as client:
        await locate(client)
        first = (await client.get("/cells/c/live")).json()
        assert first == {"estimates": [], "next": 0}
        await locate(client)
        await client.post("/locate/batch", json={"items": [tiny_request(1), tiny_request(1) | {"cellId": "other"}]})
        answer = await client.get("/cells/c/live")
        one, other = answer.json()["estimates"]
        assert answer.headers["cache-control"] == "no-store"
        assert one["point"] == other["point"] == {"x": 21.5, "y": 0.0}
        assert one["confidence"] == 95
        assert one["uncertaintyEllipse"]["semiMajor"] > 0
        assert one["source"] == "mateformer"
        assert "requestId" not in one
        later = (await client.get(f"/cells/c/live?after={one['number']}")).json()
        assert later == {"estimates": [other], "next": other["number"]}


@pytest.mark.anyio
async def test_estimates_of_one_track_have_the_same_number_and_no_id(watched: Settings) -> None:
    async with running(watched) as client:
        await client.get("/cells/c/live")
        for track in ("bus 7", "bus 8", None, "bus 7"):
            (await client.post("/locate", json=tiny_request(1) | {"trackId": track})).raise_for_status()
        answer = await client.get("/cells/c/live")
    assert [one.get("track") for one in answer.json()["estimates"]] == [1, 2, None, 1]
    assert "bus" not in answer.text


@pytest.mark.anyio
async def test_who_counts_from_another_process_misses_nothing(watched: Settings) -> None:
    async with running(watched) as client:
        assert (await client.get("/cells/c/live?after=5000")).json() == {"estimates": [], "next": 5000}
        await locate(client)
        answer = (await client.get("/cells/c/live?after=5000")).json()
    assert [one["number"] for one in answer["estimates"]] == [answer["next"]] == [1]


@pytest.mark.anyio
async def test_only_the_last_estimates_are_kept(watched: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "KEPT", 3)
    async with running(watched) as client:
        await client.get("/cells/c/live")
        for _ in range(5):
            await locate(client)
        answer = (await client.get("/cells/c/live")).json()
    assert [one["number"] for one in answer["estimates"]] == [3, 4, 5]


@pytest.mark.anyio
async def test_all_is_forgotten_when_nobody_asks_any_more(watched: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "WATCHED_S", 0.0)
    async with running(watched) as client:
        await client.get("/cells/c/live")
        await locate(client)
        assert (await client.get("/cells/c/live")).json()["estimates"] == []


@pytest.mark.anyio
async def test_cells_watched_at_once_are_bounded(watched: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST_WATCHED", 0)
    async with running(watched) as client:
        assert (await client.get("/cells/none/live")).json()["cause"] == "CELL_NOT_FOUND"
        answer = await client.get("/cells/c/live")
    assert (answer.status_code, answer.json()["cause"]) == (503, "NF_CONGESTION")


@pytest.fixture
def watched(tmp_path: Path) -> Settings:
    return tiny_service(tmp_path).model_copy(update={"console_live": True})


async def locate(client: httpx.AsyncClient) -> None:
    answer = await client.post("/locate", json=tiny_request(1) | {"requestId": "somebody"})
    assert answer.status_code == 200
