import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from service.auth.keys import edit_keys
from service.settings import Settings
from tests.redis_servers import GUARD_S, wait_until
from tests.service.replicas import NEVER_S
from tests.service.running import running, tiny_request
from tests.service.serving import serving
from tests.service.tiny_service import added_key, bearing, make_tiny_settings


@pytest.fixture
def guarded(tmp_path: Path) -> Settings:
    file = tmp_path / "keys.json"
    added_key(file, ["read"])
    return make_tiny_settings(tmp_path, keys_file=file)


@pytest.fixture
async def client(guarded: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with running(guarded) as client:
        yield client


def key_of(settings: Settings, *scopes: str, rate: float | None = None) -> dict[str, str]:
    assert settings.keys_file is not None
    return bearing(added_key(settings.keys_file, scopes, rate))


def assert_refused(response: httpx.Response, status: int, cause: str) -> None:
    assert (response.status_code, response.json()["cause"]) == (status, cause)
    assert response.headers["content-type"] == "application/problem+json"


ROUTES = [
    ("POST", "/locate"),
    ("POST", "/locate/batch"),
    ("GET", "/cells"),
    ("GET", "/cells/c"),
    ("PUT", "/cells/c"),
    ("GET", "/cells/c/export"),
    ("POST", "/cells/c/fingerprints/delete"),
    ("GET", "/models"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/nowhere"),
]


@pytest.mark.anyio
async def test_a_new_line_after_a_path_opens_nothing(guarded: Settings) -> None:
    """`export` shows where people were, which needs "operate"; other pages below a cell need only "read"."""
    reader, operator = key_of(guarded, "read"), key_of(guarded, "read", "operate")
    async with running(guarded) as client:
        assert (await client.get("/cells/c/export", headers=reader)).status_code == 403
        for path in ("/cells/c/export", "/cells/c/fingerprints", "/cells/c/errors", "/cells/c", "/cells", "/metrics"):
            assert (await client.get(path, headers=operator)).status_code == 200
            refused = await client.get(f"{path}%0A", headers=operator)
            assert_refused(refused, 404, "RESOURCE_URI_STRUCTURE_NOT_FOUND")
            assert (await client.get(f"{path}%0A", headers=reader)).status_code in (403, 404)


@pytest.mark.anyio
async def test_without_a_key_only_health_and_pages_answer(client: httpx.AsyncClient) -> None:
    for method, path in ROUTES:
        response = await client.request(method, path)
        assert_refused(response, 401, "KEY_MISSING")
        assert response.headers["www-authenticate"] == 'Bearer realm="fingerpost"'
    for path in ("/health/live", "/health/ready", "/docs", "/docs/files/swagger-ui.css", "/console"):
        assert (await client.get(path)).status_code == 200


@pytest.mark.anyio
async def test_with_a_wrong_key_only_health_and_pages_answer(client: httpx.AsyncClient) -> None:
    for method, path in ROUTES:
        response = await client.request(method, path, headers=bearing("fp_0123456789ab_secret"))
        assert_refused(response, 401, "KEY_UNKNOWN")
        assert response.headers["www-authenticate"].endswith('error="invalid_token"')
    assert (await client.get("/health/live", headers=bearing("wrong"))).status_code == 200


@pytest.mark.anyio
async def test_each_scope_opens_its_routes_alone(guarded: Settings) -> None:
    keys = {scope: key_of(guarded, scope) for scope in ("locate", "operate", "read")}
    allowed = {
        "locate": {("POST", "/locate"), ("POST", "/locate/batch")},
        "read": {(m, p) for m, p in ROUTES if m == "GET" and p not in ("/cells/c/export", "/nowhere")},
        "operate": {(m, p) for m, p in ROUTES if p in ("/cells/c/export", "/nowhere") or p.startswith("/cells/c/f")},
    }
    allowed["operate"].add(("PUT", "/cells/c"))
    async with running(guarded) as client:
        for scope, key in keys.items():
            for method, path in ROUTES:
                response = await client.request(method, path, headers=key)
                if (method, path) in allowed[scope]:
                    assert response.status_code not in (401, 403, 429), (scope, method, path)
                else:
                    assert_refused(response, 403, "SCOPE_MISSING")
                    assert response.headers["www-authenticate"].endswith('error="insufficient_scope"')


@pytest.mark.anyio
async def test_a_user_is_located_with_a_key(guarded: Settings) -> None:
    key = key_of(guarded, "locate")
    async with running(guarded) as client:
        response = await client.post("/locate", json=tiny_request(1), headers=key)
    assert response.status_code == 200
    assert response.json()["localLocationEstimate"]["point"] == {"x": 21.5, "y": 0.0}


@pytest.mark.anyio
async def test_requests_above_the_rate_get_429_with_retry_after(guarded: Settings) -> None:
    slow, other = key_of(guarded, "locate", rate=0.01), key_of(guarded, "locate")
    async with running(guarded) as client:
        statuses = [(await client.post("/locate", json=tiny_request(1), headers=slow)).status_code for _ in range(3)]
        assert statuses == [200, 429, 429]
        response = await client.post("/locate", json=tiny_request(1), headers=slow)
        assert_refused(response, 429, "NF_CONGESTION_RISK")
        assert 1 <= int(response.headers["retry-after"]) <= 100
        assert (await client.post("/locate", json=tiny_request(1), headers=other)).status_code == 200


@pytest.mark.anyio
async def test_every_user_of_a_batch_counts(guarded: Settings) -> None:
    key = key_of(guarded, "locate", rate=0.1)
    async with running(guarded) as client:
        first = await client.post("/locate/batch", json={"items": [tiny_request(1)] * 5}, headers=key)
        again = await client.post("/locate", json=tiny_request(1), headers=key)
    assert [set(result) for result in first.json()["results"]] == [{"location"}] * 5
    assert_refused(again, 429, "NF_CONGESTION_RISK")
    assert 40 < int(again.headers["retry-after"]) <= 50


@pytest.mark.anyio
async def test_refusals_are_counted_like_other_answers(guarded: Settings) -> None:
    key = key_of(guarded, "read")
    async with running(guarded) as client:
        await client.post("/locate", json=tiny_request(1))
        metrics = (await client.get("/metrics", headers=key)).text
    assert 'fingerpost_requests_total{route="none",status="401"} 1.0' in metrics


@pytest.mark.anyio
async def test_metrics_without_key_opens_metrics_only(guarded: Settings) -> None:
    async with running(guarded.model_copy(update={"metrics_without_key": True})) as client:
        assert (await client.get("/metrics")).status_code == 200
        for path in ("/metrics/", "http://a//metrics", "/models", "/cells"):
            assert (await client.get(path)).status_code == 401


@pytest.mark.anyio
async def test_openapi_names_the_scope_of_each_operation(guarded: Settings, tmp_path: Path) -> None:
    key = key_of(guarded, "read")
    async with running(guarded) as client:
        document = (await client.get("/openapi.json", headers=key)).json()
    scheme = document["components"]["securitySchemes"]["key"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert document["paths"]["/locate"]["post"]["security"] == [{"key": ["locate"]}]
    assert document["paths"]["/cells/{cellId}"]["put"]["security"] == [{"key": ["operate"]}]
    assert document["paths"]["/health/ready"]["get"]["security"] == []


@pytest.mark.anyio
async def test_without_a_keys_file_no_key_is_needed(guarded: Settings) -> None:
    async with running(guarded.model_copy(update={"keys_file": None})) as client:
        assert (await client.post("/locate", json=tiny_request(1))).status_code == 200
        assert "security" not in (await client.get("/openapi.json")).json()["paths"]["/locate"]["post"]


def stall(file: Path) -> None:
    """Replaces a file by one whose reading never ends."""
    os.mkfifo(file.with_suffix(".stalled"))
    file.with_suffix(".stalled").replace(file)


@pytest.mark.anyio
async def test_a_stalled_keys_file_makes_the_service_unready_until_it_can_be_read(
    guarded: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("PERIOD_S", 0.01), ("READING_S", 0.3), ("UNSAFE_AFTER_S", 1.0)):
        monkeypatch.setattr(f"service.app.{name}", seconds)
    file = guarded.keys_file
    assert file is not None
    async with running(guarded) as client:
        old = key_of(guarded, "read")

        async def becomes(path: str, status: int, headers: dict[str, str] | None = None) -> httpx.Response:
            async with asyncio.timeout(GUARD_S):
                while (answer := await client.get(path, headers=headers)).status_code != status:
                    await asyncio.sleep(0.01)
            return answer

        await becomes("/cells", 200, old)
        file.rename(file.with_suffix(".whole"))
        stall(file)
        async with asyncio.timeout(GUARD_S):
            while (stalled := open_if_read(file)) is None:
                await asyncio.sleep(0.01)
        answer = await becomes("/health/ready", 503)
        assert (answer.json()["cause"], "keys" in answer.json()["detail"]) == ("NOT_READY", True)
        assert (await client.get("/cells", headers=old)).status_code == 200
        with edit_keys(file.with_suffix(".whole")) as keys:
            keys.clear()
        file.with_suffix(".whole").replace(file)
        os.close(stalled)
        await becomes("/cells", 401, old)
        await becomes("/health/ready", 200)


@pytest.mark.anyio
async def test_a_keys_file_that_replaces_a_stalled_one_is_read(
    guarded: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("PERIOD_S", 0.01), ("READING_S", 0.3)):
        monkeypatch.setattr(f"service.app.{name}", seconds)
    file = guarded.keys_file
    assert file is not None
    async with running(guarded) as client:
        old = key_of(guarded, "read")
        async with asyncio.timeout(GUARD_S):
            while (await client.get("/cells", headers=old)).status_code != 200:
                await asyncio.sleep(0.01)
            file.rename(file.with_suffix(".whole"))
            stall(file)
            while (stalled := open_if_read(file)) is None:
                await asyncio.sleep(0.01)
            try:
                with edit_keys(file.with_suffix(".whole")) as keys:
                    keys.clear()
                file.with_suffix(".whole").replace(file)
                while (await client.get("/cells", headers=old)).status_code != 401:  # the first reading still hangs
                    await asyncio.sleep(0.01)
            finally:
                os.close(stalled)


def test_a_stalled_keys_file_does_not_keep_the_process_from_ending(guarded: Settings) -> None:
    file = guarded.keys_file
    assert file is not None
    with serving(guarded.model_copy(update={"shutdown_s": NEVER_S})) as url:  # the process must end by itself
        assert httpx.get(f"{url}/health/ready", timeout=GUARD_S).status_code == 200
        stall(file)
        found: list[int | None] = []
        wait_until(lambda: found.append(open_if_read(file)) or found[-1] is not None, "nothing reads the keys")
        assert found[-1] is not None
    os.close(found[-1])


def open_if_read(fifo: Path) -> int | None:
    """A descriptor for writing, if a thread of the service reads the file: it then waits for data."""
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # no reader
        return None
