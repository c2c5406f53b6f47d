"""Files damaged on purpose: told by name or not noticed, and the service goes on."""

import json
import random
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from models.artifact import ArtifactError
from service.app import create_app
from service.settings import Settings
from tests.damage import damage
from tests.service.running import running, tiny_request
from tests.service.tiny_service import make_tiny_settings

DAMAGED = 24


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return make_tiny_settings(tmp_path_factory.mktemp("whole"))


def _damage(rng: random.Random, file: Path) -> None:
    content = bytearray(file.read_bytes())
    match rng.randrange(5):
        case 0:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        case 1:
            del content[rng.randrange(len(content)) :]
        case 2:
            content += rng.randbytes(100)
        case 3:
            content = bytearray(rng.randbytes(len(content)))
        case _:
            content = bytearray()
    damage(file, content)


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(DAMAGED))
async def test_a_damaged_database_is_told_of_and_everything_else_goes_on(
    whole: Settings, tmp_path: Path, seed: int
) -> None:
    rng, database = random.Random(seed), tmp_path / "database"
    shutil.copytree(whole.database_directory, database)
    files = sorted(file for file in database.rglob("*") if file.is_file() and file.stat().st_size)
    _damage(rng, files[seed % len(files)])
    async with running(whole.model_copy(update={"database_directory": database})) as client:
        answers = [
            await client.post("/locate", json=tiny_request(1)),
            await client.get("/cells"),
            await client.get("/cells/c"),
            await client.get("/cells/c/versions"),
            await client.get("/cells/c/fingerprints"),
            await client.get("/cells/c/export"),
            await client.post("/cells/c/rollback", json={"version": 1}),
            await client.get("/openapi.json"),
        ]
        assert (await client.get("/health/ready")).status_code == 200
    for answer in answers:
        if answer.status_code >= 400:
            assert answer.json()["cause"] in (
                "CELL_UNREADABLE",
                "CELL_NOT_FOUND",
                "VERSION_NOT_FOUND",
                "UPDATE_REFUSED",
            )


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_manifest_of_an_artifact_stops_the_start_or_is_not_noticed(
    whole: Settings, tmp_path: Path, seed: int
) -> None:
    shutil.copytree(whole.artifact_directory, tmp_path / "artifact", ignore=shutil.ignore_patterns("database"))
    _damage(random.Random(seed), tmp_path / "artifact" / "artifact.json")
    settings = whole.model_copy(update={"artifact_directory": tmp_path / "artifact"})
    with suppress(ArtifactError):
        create_app(settings)


def test_damaged_graphs_are_refused_or_prove_themselves_whatever_their_hashes_say() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.service.damaged_artifacts", "150"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    outcomes = json.loads(done.stdout.splitlines()[-1])
    assert set(outcomes) <= {"refused", "loaded"}, outcomes
    assert outcomes["refused"] > 50
