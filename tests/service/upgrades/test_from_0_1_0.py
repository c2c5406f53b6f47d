"""What version 0.1.0 wrote: today's code reads it, serves it and changes it, or says by name what it does not take.

`database-0.1.0.json` holds the bytes that the code of 0.1.0 wrote. `write_database_0_1_0.py` made it.
"""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import redis

from fingerpost import build_locate_body
from models.artifact import BadManifest, load_artifact
from reference_db import Store, open_store, read_contents, read_fingerprint_file
from service.settings import Settings
from tests.redis_servers import RedisServer, empty
from tests.service.running import running
from tests.service.tiny_artifact import write_tiny_artifact

pytestmark = pytest.mark.anyio

Json = dict[str, Any]

WRITTEN: Json = json.loads((Path(__file__).parent / "database-0.1.0.json").read_text())
VERSIONS = {
    int(Path(path).parent.name): Path(path).name for path in WRITTEN["directory"] if len(Path(path).name) == 64
}  # number: digest of the manifest


@pytest.fixture(params=["directory", "redis"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "directory":
        for path, content in WRITTEN["directory"].items():
            file = tmp_path / "database" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(_decode(WRITTEN["segments"][file.stem] if content is None else content))
        return str(tmp_path / "database")
    server: RedisServer = request.getfixturevalue("redis_server")
    empty(server)
    with redis.Redis.from_url(server.url) as client:
        for name, key in WRITTEN["redis"].items():
            _restore(client, name, key["type"], key["value"])
    return server.url


def _restore(client: redis.Redis, name: str, kind: str, value: Any) -> None:
    if kind == "string":
        client.set(name, _decode(WRITTEN["segments"][name.rpartition(":")[2]] if value is None else value))
    elif kind == "hash":
        client.hset(name, mapping={field: _decode(one) for field, one in value.items()})
    elif kind == "set":
        client.sadd(name, *map(_decode, value))
    else:
        for entry, fields in value:
            client.xadd(name, {field: _decode(one) for field, one in fields.items()}, id=entry)


def _decode(content: str) -> bytes:
    marked = content.removeprefix("base64:")
    return content.encode() if marked == content else base64.b64decode(marked)


@pytest.fixture
def settings(database: str, tmp_path: Path) -> Settings:
    keys = tmp_path / "keys.json"
    keys.write_text(WRITTEN["keys"])
    (tmp_path / "artifact").mkdir()
    write_tiny_artifact(tmp_path / "artifact")
    where = {"redis_url" if "://" in database else "database_directory": database}
    few = {"inference_threads": 1, "calibration_samples": 20, "calibration_sigmas_m": (1.0,)}
    return Settings(artifact_directory=tmp_path / "artifact", keys_file=keys, **where, **few)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """The newest version of the cell, as `GET /cells/{cellId}/export` of 0.1.0 answered it."""
    file = tmp_path / "c.safetensors"
    file.write_bytes(_decode(WRITTEN["export"]))
    return file


def test_every_version_is_read_under_its_name(database: str) -> None:
    store: Store = open_store(database)
    assert store.cells() == ["c"]
    assert store.numbers("c") == sorted(VERSIONS)
    for number, digest in VERSIONS.items():
        manifest = store.manifest("c", number)
        assert manifest.digest == digest
        assert len(read_contents(store, manifest)) == manifest.fingerprints > 0
    store.close()


async def test_a_cell_is_served_and_changed(settings: Settings, exported: Path) -> None:
    key = {"Authorization": f"Bearer {WRITTEN['key']}"}
    async with running(settings) as client:
        shown = (await client.get("/cells/c", headers=key)).json()
        newest = max(VERSIONS)
        assert shown["version"] == f"{newest}-{VERSIONS[newest][:12]}"
        assert (shown["model"]["policy"], shown["retention"]["maxAgeS"]) == ("mateformer", 1e9)
        _, fingerprints = read_fingerprint_file(exported)
        csi, (east, north) = fingerprints.csi[0], fingerprints.positions[0].tolist()
        body = build_locate_body("c", csi, {"x": east + 0.5, "y": north, "hAccuracy": 1.0})
        located = await client.post("/locate", json=body, headers=key)
        assert located.status_code == 200, located.text
        assert located.json()["provenance"]["source"] == "mateformer"
        versions = (await client.get("/cells/c/versions", headers=key)).json()["versions"]
        assert {one["version"] for one in versions} == {f"{n}-{digest[:12]}" for n, digest in VERSIONS.items()}
        back = await client.post("/cells/c/rollback", json={"version": 1}, headers=key)
        assert back.status_code == 200, back.text
        after = (await client.get("/cells/c", headers=key)).json()
        assert after["version"].startswith(f"{newest + 1}-")
        assert after["fingerprints"] == 60


def test_an_exported_file_is_read(exported: Path) -> None:
    cell, fingerprints = read_fingerprint_file(exported)
    assert (cell.cell_id, cell.yaw) == ("c", pytest.approx(0.3))
    assert len(fingerprints) == 69


@pytest.mark.parametrize(
    ("family", "advice"), [("mateformer", "one array and one grid only"), ("scadf-moe", "states no covariances")]
)
def test_an_artifact_is_refused_with_advice(tmp_path: Path, family: str, advice: str) -> None:
    (tmp_path / "artifact.json").write_text(WRITTEN["artifacts"][family])
    with pytest.raises(BadManifest, match=f"schema version 1 is no longer served.*{advice}"):
        load_artifact(tmp_path)
