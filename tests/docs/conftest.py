"""The service as a process of its own, with the demo's first cell, and a model that measures if none is shipped."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from service.settings import Settings
from tests.docs.pages import ROOT
from tests.service.serving import serving
from tests.service.tiny_lwlm_artifact import CONTRACT, write_tiny_lwlm_artifact

_CELL = "florence-0000"


@pytest.fixture(scope="session")
def demo_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where it answers."""
    database = tmp_path_factory.mktemp("demo") / "database"
    file = ROOT / "benchmarks" / "data" / f"{_CELL}-references.safetensors"
    command = [sys.executable, "-m", "fingerpost", "cells", "import", _CELL, str(file), "--database", str(database)]
    quick = os.environ | {"FINGERPOST_CALIBRATION_SAMPLES": "40"}
    subprocess.run(command, cwd=ROOT, env=quick, stdout=subprocess.DEVNULL, check=True)
    settings = Settings(port=0, database_directory=database, calibration_samples=40)
    if settings.lwlm_artifact_directory is None:
        contract = CONTRACT.model_copy(update={"antennas": (32,), "subcarriers": (32,)})
        measuring = write_tiny_lwlm_artifact(database.parent / "lwlm", contract, doubts=False).directory
        settings = settings.model_copy(update={"lwlm_artifact_directory": measuring})
    with serving(settings) as url:
        yield url
