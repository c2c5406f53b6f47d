from pathlib import Path

import pytest

from service.settings import Settings
from service.telemetry.correlation import correlation_fields
from tests.service.running import running, tiny_request
from tests.service.tiny_service import added_key, make_tiny_settings

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_tiny_settings(tmp_path)


@pytest.mark.anyio
async def test_correlation_headers_come_back_in_every_answer(settings: Settings, tmp_path: Path) -> None:
    followed = {"traceparent": TRACE, "X-Correlator": "b4333c46-49c0-4f62-80d7-f0ef930f1c46"}
    file = tmp_path / "keys.json"
    added_key(file, ["read"])
    async with running(settings) as client, running(settings.model_copy(update={"keys_file": file})) as guarded:
        answers = [
            await client.post("/locate", json=tiny_request(1), headers=followed),
            await client.post("/locate", json={}, headers=followed),
            await client.get("/cells", headers=followed),
            await client.get("/nowhere", headers=followed),
            await guarded.get("/cells", headers=followed),
        ]
        without = await client.get("/cells")
    assert [answer.status_code for answer in answers] == [200, 400, 200, 404, 401]
    for answer in answers:
        assert {name: answer.headers[name] for name in followed} == followed
    assert not {"traceparent", "x-correlator"} & set(without.headers)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("traceparent", "ff" + TRACE[2:]),
        ("traceparent", TRACE.upper()),
        ("traceparent", "00-" + "0" * 32 + TRACE[35:]),
        ("traceparent", TRACE[:36] + "0" * 16 + "-01"),
        ("traceparent", TRACE + "-more"),
        ("traceparent", ""),
        ("x-correlator", "a" * 257),
        ("x-correlator", 'a","level":"ERROR'),
        ("x-correlator", "two words"),
        ("x-correlator", ""),
    ],
)
async def test_malformed_correlation_headers_are_ignored(settings: Settings, name: str, value: str) -> None:
    async with running(settings) as client:
        assert name not in (await client.get("/health/live", headers={name: value})).headers


def test_outside_a_request_there_are_no_correlation_fields() -> None:
    assert correlation_fields() == {}
