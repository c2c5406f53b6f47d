"""Each refusal that `force` overrides names `force`. Those of activations are in `artifacts/test_activation.py`."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.service.running import running_one_artifact
from tests.service.updates.wire import DESCRIPTION, npz, on_a_line, sent

LINE = on_a_line(0, 40)
FILE = {"Content-Type": "application/octet-stream"}
WIDE = {"cell": DESCRIPTION | {"array": {"rows": 1, "columns": 8}}}
DEGREES = npz(LINE, positions=np.tile([43.7, 11.2], (40, 1)))
MOST_OF_IT = {"area": {"west": 10, "south": -1, "east": 90, "north": 1}}


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A cell `c`, which the artifact for fingerprints serves; there is no other artifact."""
    async with running_one_artifact(tmp_path) as client:
        created = await client.put("/cells/c", json={"cell": DESCRIPTION, "fingerprints": sent(LINE)})
        assert created.status_code == 201, created.text
        yield client


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "path", "content", "status", "cause"),
    [
        ("PUT", "/cells/d", {"json": WIDE}, 409, "CELL_NOT_SERVED_BY_ARTIFACT"),
        ("PUT", "/cells/c/model", {"json": {"policy": "lwlm"}}, 501, "NO_MEASURING_ARTIFACT"),
        ("PUT", "/cells/c/model", {"json": {"policy": "scadf-moe"}}, 501, "NO_TRAJECTORY_ARTIFACT"),
        ("PUT", "/cells/c", {"content": DEGREES, "headers": FILE}, 422, "SURVEY_IMPLAUSIBLE"),
        ("POST", "/cells/c/fingerprints/delete", {"json": MOST_OF_IT}, 409, "CELL_TOO_SMALL"),
        ("DELETE", "/cells/c", {}, 428, "CONDITION_MISSING"),
    ],
)
async def test_a_refusal_that_force_overrides_names_it(
    client: httpx.AsyncClient, method: str, path: str, content: dict[str, Any], status: int, cause: str
) -> None:
    refused = await client.request(method, path, **content)
    assert (refused.status_code, refused.json()["cause"]) == (status, cause)
    assert "--force" in refused.json()["detail"]
    assert "force=true" in refused.json()["detail"]
    forced = await client.request(method, path, params={"force": "true"}, **content)
    assert forced.is_success, forced.text


@pytest.mark.anyio
async def test_a_damaged_cell_that_is_deleted_by_its_version_names_force(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    version = (await client.get("/cells/c")).json()["version"]
    for path in (tmp_path / "database").rglob("manifest.json"):
        path.write_bytes(b"{}")
    refused = await client.delete("/cells/c", headers={"If-Match": version})
    assert (refused.status_code, refused.json()["cause"]) == (500, "CELL_UNREADABLE")
    assert "--force or force=true without If-Match deletes it" in refused.json()["detail"]
    assert (await client.delete("/cells/c", params={"force": "true"})).is_success
