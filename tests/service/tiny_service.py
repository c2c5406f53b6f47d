"""The service in this process, on a network that takes no time."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from reference_db import DirectoryStore, Fingerprints, import_fingerprints
from service.app import create_app
from service.client import request_of
from service.keys import Scope, changing, make_key
from service.settings import Settings
from tests.service.tiny_artifact import ANTENNAS, SUBCARRIERS, write_tiny_artifact
from tests.service.tiny_cell import ORIGIN, tiny_cell


def make_tiny_settings(directory: Path, **knobs: Any) -> Settings:
    """A cell `c` of 40 fingerprints on a line, and the network that answers the middle of the neighbourhood."""
    write_tiny_artifact(directory)
    positions = np.stack([np.arange(40), np.zeros(40)], axis=1).astype(np.float32)
    csi = np.random.default_rng(0).uniform(0.5, 1, (40, ANTENNAS, SUBCARRIERS)).astype(np.complex64)
    fingerprints = Fingerprints(csi, positions, np.zeros(40), np.full(40, 0.05, np.float32))
    import_fingerprints(DirectoryStore(directory / "database"), tiny_cell(), fingerprints, {}, ORIGIN)
    few = {"port": 0, "inference_threads": 1, "calibration_samples": 20, "calibration_sigmas_m": (1.0,)}
    return Settings(artifact_directory=directory, database_directory=directory / "database", **few | knobs)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://a") as client:
        yield client


def tiny_request(sign: float) -> dict[str, Any]:
    """Of a user at (20.4, 0) whom the network finds at (20.5, 0), or with a negative sign nowhere: NaN."""
    csi = np.full((ANTENNAS, SUBCARRIERS), sign, np.complex64)
    return request_of("c", csi, {"x": 20.4, "y": 0.0, "hAccuracy": 1.0})


def added_key(file: Path, scopes: Sequence[Scope], rate: float | None = None) -> str:
    """A key that from now on lies in the file."""
    key, record = make_key("test", scopes, rate, datetime.now(UTC))
    with changing(file) as keys:
        keys.append(record)
    return key


def bearing(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
