"""The service in this process, with a network that takes no time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from fingerpost import build_locate_body
from reference_db import DirectoryStore, Fingerprints, import_fingerprints
from service.app import create_app
from service.settings import Settings
from service.web.health import Draining
from tests.service.tiny_artifact import ANTENNAS, SUBCARRIERS, only, write_tiny_artifact
from tests.service.tiny_cell import ORIGIN, tiny_cell


@asynccontextmanager
async def running(settings: Settings, draining: Draining | None = None) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings, draining)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        yield client


@asynccontextmanager
async def running_one_artifact(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The service without a cell, and with one artifact, for fingerprints; it calibrates quickly."""
    write_tiny_artifact(folder, radios=only(ANTENNAS))
    settings = Settings(
        artifact_directory=folder,
        database_directory=folder / "database",
        trajectory_artifact_directory=None,
        lwlm_artifact_directory=None,
        calibration_samples=20,
        calibration_sigmas_m=(1.0,),
    )
    async with running(settings) as client:
        yield client


def tiny_service(folder: Path) -> Settings:
    """A cell `c` of 40 fingerprints on a line, and the network that answers the middle of the neighbourhood."""
    write_tiny_artifact(folder)
    positions = np.stack([np.arange(40), np.zeros(40)], axis=1).astype(np.float32)
    csi = np.random.default_rng(0).uniform(0.5, 1, (40, ANTENNAS, SUBCARRIERS)).astype(np.complex64)
    fingerprints = Fingerprints(csi, positions, np.zeros(40), np.full(40, 0.05, np.float32))
    store = DirectoryStore(folder / "database")
    import_fingerprints(store, tiny_cell(), fingerprints, {}, ORIGIN)
    return Settings(artifact_directory=folder, database_directory=folder / "database")


def tiny_request(sign: float) -> dict[str, Any]:
    csi = np.full((ANTENNAS, SUBCARRIERS), sign, np.complex64)
    return build_locate_body("c", csi, {"x": 20.4, "y": 0.0, "hAccuracy": 1.0})
