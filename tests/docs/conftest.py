"""The service as a process of its own, with cells of the demo, and a model that measures if none is shipped."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from reference_db import DirectoryStore, read_fingerprint_file
from service.settings import Settings
from tests.docs.pages import ROOT
from tests.service.measured_cells import create_cells
from tests.service.serving import serving
from tests.service.tiny_lwlm_artifact import CONTRACT, write_tiny_lwlm_artifact

_CELL = "florence-0000"


@pytest.fixture(scope="session")
def demo_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where it answers."""
    database = tmp_path_factory.mktemp("demo") / "database"
    data = ROOT / "benchmarks" / "data"
    file = data / f"{_CELL}-references.safetensors"
    command = [sys.executable, "-m", "fingerpost", "cells", "import", _CELL, str(file), "--database", str(database)]
    quick = os.environ | {"FINGERPOST_CALIBRATION_SAMPLES": "40"}
    subprocess.run(command, cwd=ROOT, env=quick, stdout=subprocess.DEVNULL, check=True)
    stations = [read_fingerprint_file(file)[0] for file in data.glob("*-stations.safetensors")]
    create_cells(DirectoryStore(database), *stations)
    settings = Settings(port=0, database_directory=database, calibration_samples=40)
    if settings.lwlm_artifact_directory is None:
        contract = CONTRACT.model_copy(update={"antennas": (16, 32), "subcarriers": (32, 64)})
        measuring = write_tiny_lwlm_artifact(database.parent / "lwlm", contract, doubts=False).directory
        settings = settings.model_copy(update={"lwlm_artifact_directory": measuring})
    with serving(settings) as url:
        yield url
