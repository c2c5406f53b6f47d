"""A small reference database, and the service running on it as a process of its own."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from threadpoolctl import threadpool_limits

from fingerpost import build_locate_body
from models.artifact import MateformerManifest, load_artifact
from reference_db import CellVersion, DirectoryStore, import_fingerprints
from service.cells.calibration import calibrate
from service.inference.estimator import Estimator
from service.inference.mateformer_session import MateformerSession
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.service.learned_cells import fill, write_artifacts
from tests.service.plane_cell import USER, Json, fingerprints_at, make_cell, street, users_at
from tests.service.serving import serving
from tests.service.tiny_artifact import write_tiny_artifact
from tests.service.tiny_cell import ORIGIN, version_of


@pytest.fixture(scope="session", autouse=True)
def single_threaded_blas() -> Iterator[None]:
    """As in the service: threads of BLAS that wait for busy cores take a hundred times as long as one thread."""
    with threadpool_limits(limits=1):
        yield


@pytest.fixture(scope="session", autouse=True)
def one_model() -> Iterator[None]:
    """A service has the models that its settings name, and no other: most of a start goes into loading shipped ones."""
    with pytest.MonkeyPatch.context() as patch:
        for family in ("TRAJECTORY", "LWLM"):
            patch.setenv(f"FINGERPOST_{family}_ARTIFACT_DIRECTORY", "none")
        yield


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def artifact_directory() -> Path:
    """The artifact that the repository ships."""
    return Path(__file__).parents[2] / "models" / "artifacts" / "mateformer"


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory, artifact_directory: Path) -> Settings:
    return Settings(
        port=0,
        database_directory=tmp_path_factory.mktemp("database"),
        artifact_directory=artifact_directory,
        trajectory_artifact_directory=artifact_directory.parent / "scadf-moe",
        lwlm_artifact_directory=None,
        body_limit_bytes=4 * 2**20,
        inference_threads=1,
        calibration_samples=40,
        calibration_sigmas_m=(1.0, 5.0),
        console_live=True,
    )


@pytest.fixture(scope="session")
def store(settings: Settings) -> DirectoryStore:
    """Cells: `plane` and `other` as imported, `fresh` not calibrated, `small` and `narrow` not servable.

    `narrow` has 16 antennas, five wavelengths apart.
    """
    store = DirectoryStore(settings.database_directory)
    for cell_id, n, antennas, spacing, calibrated in (
        ("plane", 300, 32, 0.5, True),
        ("other", 150, 32, 0.5, True),
        ("fresh", 80, 32, 0.5, False),
        ("small", 10, 32, 0.5, False),
        ("narrow", 100, 16, 5.0, False),
    ):
        cell, fingerprints = make_cell(cell_id, antennas, spacing), fingerprints_at(street(n, n), antennas)
        quality = _calibrated(settings, version_of(cell, fingerprints)) if calibrated else {}
        import_fingerprints(store, cell, fingerprints, quality, ORIGIN)
    return store


def _calibrated(settings: Settings, version: CellVersion) -> Json:
    artifact = load_artifact(settings.artifact_directory, MateformerManifest)
    session = MateformerSession(artifact, settings.inference_threads, settings.execution_providers)
    estimator = Estimator(session, settings.inference_batch, settings.frame_cache_bytes, Metrics())
    try:
        return calibrate(artifact, estimator, version, settings).as_quality(artifact.digest)
    finally:
        session.close()


@pytest.fixture(scope="session")
def url(settings: Settings, store: DirectoryStore) -> Iterator[str]:
    """The running service."""
    with serving(settings) as address:
        yield address


@pytest.fixture(scope="session")
def learned_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running service with a model for trajectories too; see `learned_cells` for its cells."""
    settings = write_artifacts(tmp_path_factory.mktemp("learned"))
    fill(DirectoryStore(settings.database_directory))
    with serving(settings) as address:
        yield address


@pytest.fixture
def learned(learned_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=learned_url, timeout=60) as client:
        yield client


@pytest.fixture
def session(tmp_path: Path) -> Iterator[MateformerSession]:
    """A session of the model that answers the middle of the neighbourhood."""
    session = MateformerSession(write_tiny_artifact(tmp_path), 1, ["CPUExecutionProvider"])
    yield session
    session.close()


@pytest.fixture(scope="session")
def tiny_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of `session`, with frames."""
    folder = tmp_path_factory.mktemp("artifacts") / "tiny"
    folder.mkdir()
    write_tiny_artifact(folder, tile_pitch=2.0)
    return folder


@pytest.fixture
def free(session: MateformerSession) -> Iterator[threading.Event]:
    """The owner thread is blocked until this event is set."""
    event, begun = threading.Event(), threading.Event()

    def block() -> None:
        begun.set()
        event.wait()

    session.submit(block)
    begun.wait()  # until then another thread could take its place
    yield event
    event.set()


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture
def request_body() -> Callable[..., Json]:
    """A good request of a user at `USER` in cell `plane`; keywords replace or add fields."""

    def make(**fields: Any) -> Json:
        coarse = {"x": 50.6, "y": 4.5, "hAccuracy": 1.0}
        return build_locate_body("plane", users_at(USER)[0], coarse) | fields

    return make
