import httpx
import pytest

from reference_db import DirectoryStore


def test_lists_every_cell(client: httpx.Client) -> None:
    cells = client.get("/cells").json()["cells"]
    assert [(cell["cellId"], cell["fingerprints"]) for cell in cells] == [
        ("fresh", 80),
        ("narrow", 100),
        ("other", 150),
        ("plane", 300),
        ("small", 10),
    ]


def test_shows_a_cell(client: httpx.Client, store: DirectoryStore) -> None:
    cell = client.get("/cells/plane").json()
    manifest = store.current("plane")
    assert manifest is not None
    assert cell["version"] == manifest.version
    assert cell["point"] == {"lat": 43.7731, "lon": 11.256}
    assert cell["array"] == {"rows": 1, "columns": 32, "spacing": 0.5}
    assert cell["yawDeg"] == pytest.approx(17.19, abs=0.01)
    assert cell["quality"] == manifest.quality


@pytest.mark.parametrize("cell_id", ["nowhere", "...", "a b", "%2e%2e%2fplane", "x" * 65])
def test_unknown_cell(client: httpx.Client, cell_id: str) -> None:
    response = client.get(f"/cells/{cell_id}")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
