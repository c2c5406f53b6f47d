import asyncio
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest

from reference_db import DirectoryStore
from service.background import Background
from service.errors import InferenceFailed, NotReady, Stopping
from service.inference.mateformer_session import MateformerSession
from service.inference.session import ModelUnusable
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.web.health import Draining, Health
from tests.redis_servers import GUARD_S
from tests.service.running import running, tiny_service
from tests.service.tiny_artifact import FEATURES, write_tiny_artifact


def health_of(session: MateformerSession, **knobs: float) -> Health:
    return Health(
        Settings(**knobs),
        lambda: session,
        Draining(),
        Background(Metrics().background),
        DirectoryStore(Path()),
        lambda: False,
    )


def test_is_live_and_ready(client: httpx.Client) -> None:
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json() == {"status": "ready"}


@pytest.mark.anyio
async def test_readiness_infers_again_when_the_last_answer_is_old(session: MateformerSession) -> None:
    answered = session.answers
    await health_of(session, readiness_period_s=3600).check_ready()
    assert session.answers == answered
    await health_of(session, readiness_period_s=0).check_ready()
    assert session.answers == answered + 2


@pytest.mark.anyio
async def test_is_not_ready_when_the_network_has_stopped(tmp_path: Path) -> None:
    session = MateformerSession(write_tiny_artifact(tmp_path), 1, ["CPUExecutionProvider"])
    session.close()
    with pytest.raises(NotReady):
        await health_of(session, readiness_period_s=0).check_ready()


@pytest.mark.anyio
async def test_is_not_ready_while_the_network_hangs(session: MateformerSession) -> None:
    release = threading.Event()
    session.submit(release.wait)
    health = health_of(session, readiness_period_s=0, readiness_timeout_s=0.05)
    for _ in range(3):
        with pytest.raises(NotReady, match="does not answer"):
            await health.check_ready()
    answered = session.answers
    release.set()
    await health_of(session, readiness_period_s=0).check_ready()
    assert session.answers == answered + 4  # one proof for the three probes, one for this: each describes and locates


@pytest.mark.anyio
async def test_is_live_and_not_ready_once_it_is_told_to_stop(tmp_path: Path) -> None:
    draining = Draining()
    async with running(tiny_service(tmp_path), draining) as client:
        assert (await client.get("/health/ready")).status_code == 200
        draining.began = True
        answer = await client.get("/health/ready")
        assert (answer.status_code, answer.json()["cause"]) == (503, Stopping.cause)
        assert (await client.get("/health/live")).status_code == 200


@pytest.mark.anyio
async def test_a_new_database_is_no_failure_and_readiness_says_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_tiny_artifact(tmp_path)
    settings = Settings(artifact_directory=tmp_path, database_directory=tmp_path / "new", follow_period_s=0.01)
    failures = 'fingerpost_background_failures_total{task="versions"}'
    async with running(settings) as client:
        for _ in range(10):
            answer = await client.get("/health/ready")
            await asyncio.sleep(0.02)
        assert (answer.status_code, answer.json()["cause"]) == (503, "NOT_READY")
        assert "does not exist: create it, or import a cell with --database" in answer.json()["detail"]
        assert [record.getMessage().partition(".")[0] for record in caplog.records if record.levelname != "INFO"] == [
            "the directory of the reference database does not exist"
        ]
        (tmp_path / "new").mkdir()
        assert (await client.get("/health/ready")).status_code == 200
        await eventually_follows(client)
        (tmp_path / "new").rename(tmp_path / "elsewhere")  # its file system is gone
        async with asyncio.timeout(GUARD_S):
            while f"{failures} 0.0" in (await client.get("/metrics")).text:
                await asyncio.sleep(0.02)
        assert "versions: the directory of the reference database does not exist" in caplog.text


async def eventually_follows(client: httpx.AsyncClient) -> None:
    """Returns when this replica has asked the database for versions."""
    async with asyncio.timeout(GUARD_S):
        while stale_seconds((await client.get("/metrics")).text) > 0.1:
            await asyncio.sleep(0.02)


def stale_seconds(metrics: str) -> float:
    line = next(line for line in metrics.splitlines() if line.startswith("fingerpost_reference_db_stale_seconds "))
    return float(line.rpartition(" ")[2])


def test_network_refuses_what_does_not_fit_its_graph(session: MateformerSession) -> None:
    feeds = {"positions_known": np.zeros((1, 4, 2), np.float32), "features": np.ones((1, 1, FEATURES + 1), np.float32)}
    with pytest.raises(InferenceFailed):
        session.run_in_background("full", feeds)
    assert session.seconds_since_answer < 60  # users' sessions are others
    with pytest.raises(InferenceFailed):
        session.submit(session.run, "full", feeds).result()
    # What was wrong is forgotten with the sessions that it happened in; until it answers again it is not ready.
    assert session.seconds_since_answer == np.inf
    session.prove()
    assert session.seconds_since_answer < 60


def test_a_provider_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match="has no CUDAExecutionProvider"):
        MateformerSession(write_tiny_artifact(tmp_path), 1, ["CUDAExecutionProvider"])
