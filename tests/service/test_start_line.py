"""The line with which the service says that it serves."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx

from fingerpost.wire_provenance import ArtifactReference
from reference_db import DirectoryStore
from service.settings import Settings
from service.start_line import ServedParts, describe_start
from tests.redis_servers import GUARD_S
from tests.service.running import tiny_service

ARTIFACTS = {"mateformer": ArtifactReference(name="Mateformer", version="3", digest="0123456789abcdef")}


def test_it_names_database_cells_artifact_and_address(tmp_path: Path) -> None:
    settings = tiny_service(tmp_path)
    said = describe_start(settings, "http://here:80", ServedParts(DirectoryStore(tmp_path / "database"), ARTIFACTS))
    place = f"from database {tmp_path / 'database'} (1 cell)"
    assert said == f"fingerpost: serving at http://here:80 {place} with mateformer 3 (0123456789ab)"


def test_a_database_that_cannot_be_read_is_no_reason_to_say_nothing(tmp_path: Path) -> None:
    settings, parts = Settings(database_directory=tmp_path / "no"), ServedParts(DirectoryStore(tmp_path / "no"), {})
    assert f"serving at http://here:80 from database {tmp_path / 'no'} (" in describe_start(
        settings, "http://here:80", parts
    )


def test_a_password_is_not_named() -> None:
    assert Settings(redis_url="redis://:secret@redis:6379").database == "redis://redis:6379"


def test_it_is_json_where_logs_are_and_so_is_the_warning_of_an_unknown_variable(tmp_path: Path) -> None:
    settings = tiny_service(tmp_path)
    variables = {
        "FINGERPOST_PORT": "0",
        "FINGERPOST_DATABASE_DIRECTORY": str(settings.database_directory),
        "FINGERPOST_ARTIFACT_DIRECTORY": str(settings.artifact_directory),
        "FINGERPOST_TRAJECTORY_ARTIFACT_DIRECTORY": "none",
        "FINGERPOST_LWLM_ARTIFACT_DIRECTORY": "none",
        "FINGERPOST_LOG_FORMAT": "json",
        "FINGERPOST_FOLOW_PERIOD_S": "1",
    }
    command = [sys.executable, "-m", "fingerpost", "serve"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=os.environ | variables, text=True, **pipes) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        assert httpx.get(f"{said['url']}/health/live").status_code == 200
        process.send_signal(signal.SIGINT)
        _, logged = process.communicate(timeout=GUARD_S)
    assert said["message"] == f"serving at {said['url']}"
    assert (said["database"], said["cells"]) == (str(tmp_path / "database"), 1)
    assert [one["family"] for one in said["artifacts"]] == ["mateformer"]
    assert "is FINGERPOST_FOLLOW_PERIOD_S meant?" in json.loads(logged.splitlines()[0])["message"]
    assert process.returncode == 0
