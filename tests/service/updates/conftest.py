"""The whole service in this process, its network one that takes no time; a cell `c` of 40 fingerprints on a line."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from reference_db import Fingerprints
from service.app import create_app
from service.settings import Settings
from tests.service.tiny_artifact import ANTENNAS, only, write_tiny_artifact
from tests.service.updates.wire import DESCRIPTION, on_a_line, sent


@pytest.fixture
def line() -> Fingerprints:
    return on_a_line(0, 40)


@pytest.fixture
def tiny_settings(tmp_path: Path) -> Settings:
    """With so much confidence that small cells are published untried: what trials cost is not asked here."""
    write_tiny_artifact(tmp_path, radios=only(ANTENNAS))
    return Settings(
        artifact_directory=tmp_path,
        database_directory=tmp_path / "database",
        confidence=0.99,
        body_limit_bytes=2**20,
        upload_limit_bytes=2**20,
    )


@pytest.fixture
async def empty(tiny_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """The service without a cell."""
    app = create_app(tiny_settings)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        yield client


@pytest.fixture
async def service(empty: httpx.AsyncClient, line: Fingerprints) -> httpx.AsyncClient:
    response = await empty.put("/cells/c", json={"cell": DESCRIPTION, "fingerprints": sent(line)})
    assert response.status_code == 201, response.text
    return empty
