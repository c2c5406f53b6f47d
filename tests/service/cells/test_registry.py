"""Cells in service and new versions of them; the shipped model in synthetic cells."""

import asyncio
import gc
import math
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import numpy as np
import pytest

from models.artifact import MateformerManifest, load_artifact
from reference_db import CellVersion, DirectoryStore, import_fingerprints, read_contents
from reference_db.stores.store import Buffer
from service.background import Background, Job
from service.cells.registry import ServedCells
from service.errors import CellNotFound, TooLate
from service.inference.engine import MateformerEngine, start_engine
from service.inference.estimator import Estimator
from service.inference.mateformer_session import MateformerSession
from service.inference.user import User
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.stopwatch import Stopwatch
from tests.damage import damage
from tests.service.plane_cell import fingerprints_at, make_cell, street, users_at
from tests.service.tiny_cell import ORIGIN

CELL = make_cell("plane")
STREET = street(300, 1)
CORNER = STREET[STREET.sum(axis=1).argmin()]  # south-west
PATIENCE_S = 60


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def engine(artifact_directory: Path, metrics: Metrics) -> Iterator[MateformerEngine]:
    settings = Settings(inference_threads=1, inference_batch=16, frame_cache_bytes=2**20)
    engine = start_engine(load_artifact(artifact_directory, MateformerManifest), settings, metrics)
    yield engine
    engine.close()


@pytest.fixture
def session(engine: MateformerEngine) -> MateformerSession:
    return engine.session


@pytest.fixture
def estimator(engine: MateformerEngine) -> Estimator:
    return engine.estimator


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


@pytest.fixture
async def served(
    store: DirectoryStore, engine: MateformerEngine, artifact_directory: Path, metrics: Metrics
) -> AsyncIterator[ServedCells]:
    """Asks the store for new versions a hundred times a second."""
    settings = Settings(artifact_directory=artifact_directory, calibration_samples=20, calibration_sigmas_m=(1.0,))
    cells = ServedCells(store, engine, settings, metrics)
    background = Background(metrics.background)
    background.start(Job("versions", cells.follow, 0.01))
    yield cells
    await background.stop()
    cells.close()


def publish(store: DirectoryStore, positions: np.ndarray) -> None:
    import_fingerprints(store, CELL, fingerprints_at(positions), {}, ORIGIN)


def flip_a_byte(root: Path, version: str) -> None:
    (file,) = (root / "cells" / "plane" / "versions" / version).glob("*.safetensors")
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    damage(file, data)


def encoded(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("fingerpost_frame_cache_lookups_total", {"result": "miss"}) or 0.0


async def version_served(cells: ServedCells) -> CellVersion:
    served = (await cells.serve({"plane": math.inf}))["plane"]
    assert not isinstance(served, Exception)
    return served.version


async def successor(cells: ServedCells, before: CellVersion) -> CellVersion:
    with anyio.fail_after(PATIENCE_S):
        while (version := await version_served(cells)) is before:
            await asyncio.sleep(0.01)
    return version


async def refusal_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Returns when a new version has been tried and refused."""
    with anyio.fail_after(PATIENCE_S):
        while "stays at version" not in caplog.text:
            await asyncio.sleep(0.01)


def locate(session: MateformerSession, estimator: Estimator, version: CellVersion, places: np.ndarray) -> None:
    pairs = users_at(places).view(np.float32).reshape(len(places), 32, 32, 2)
    users = [User(version, csi, place, 1.0) for csi, place in zip(pairs, places, strict=True)]
    session.submit(estimator.locate, users, Stopwatch()).result()


@pytest.mark.anyio
async def test_a_new_version_takes_over_with_the_tiles_in_use_encoded(
    served: ServedCells, store: DirectoryStore, session: MateformerSession, estimator: Estimator, metrics: Metrics
) -> None:
    publish(store, STREET)
    before = await version_served(served)
    places = np.stack([CORNER, -CORNER + STREET.min(axis=0) + STREET.max(axis=0)])  # and the opposite one
    locate(session, estimator, before, places)
    tiles = encoded(metrics)
    assert tiles == 2

    publish(store, np.concatenate([STREET, CORNER[np.newaxis] + 0.1]))
    after = await successor(served, before)
    locate(session, estimator, after, places)
    assert encoded(metrics) == tiles  # the corner's tile was encoded in the background; the other one has not changed


@pytest.mark.anyio
async def test_the_tiles_of_a_cell_may_be_encoded_ahead_once_it_is_loaded_and_again_for_another_artifact(
    served: ServedCells, store: DirectoryStore, engine: MateformerEngine, artifact_directory: Path, metrics: Metrics
) -> None:
    publish(store, STREET)
    assert not engine.estimator.ahead.may_encode
    version = await version_served(served)
    assert engine.estimator.ahead.may_encode
    assert await asyncio.to_thread(engine.estimator.ahead.encode_next)
    settings = Settings(inference_threads=1, inference_batch=16)
    other = start_engine(load_artifact(artifact_directory, MateformerManifest), settings, metrics)
    try:
        await served.switch(other)
        assert await version_served(served) is version
        assert await asyncio.to_thread(other.estimator.ahead.encode_next)
    finally:
        other.close()


@pytest.mark.anyio
async def test_a_version_that_cannot_be_served_leaves_the_old_one_in_place(
    served: ServedCells, store: DirectoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    publish(store, STREET)
    before = await version_served(served)
    publish(store, STREET[:5])  # fewer than the model needs
    await refusal_logged(caplog)
    assert await version_served(served) is before
    refused = store.newest("plane")
    assert refused is not None
    assert "the cell has 5 fingerprints" in str(served.refusal("plane", refused))
    assert served.refusal("plane", before.manifest.digest) is None
    publish(store, STREET[:200])
    assert len(await successor(served, before)) == 200
    assert served.refusal("plane", refused) is None


@pytest.mark.anyio
async def test_a_damaged_version_leaves_the_old_one_in_place(
    served: ServedCells, store: DirectoryStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(store, STREET)
    before = await version_served(served)
    publish(store, STREET[:200])
    flip_a_byte(tmp_path, "0000000002")
    served.notify("plane")
    await refusal_logged(caplog)
    assert await version_served(served) is before
    publish(store, STREET[:210])
    assert len(await successor(served, before)) == 210


@pytest.mark.anyio
async def test_an_unforeseen_error_of_a_new_version_is_counted_and_told(
    served: ServedCells, store: DirectoryStore, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store, STREET)
    before = await version_served(served)
    with monkeypatch.context() as patch:
        patch.setattr(store, "get_segment", fail)
        publish(store, STREET[:200])
        refused = store.newest("plane")
        assert refused is not None
        with anyio.fail_after(PATIENCE_S):
            while served.refusal("plane", refused) is None:
                await asyncio.sleep(0.01)
    assert "unexpected" in str(served.refusal("plane", refused))
    assert failures(metrics) == 1
    assert await version_served(served) is before
    served.notify("plane")
    assert len(await successor(served, before)) == 200


@pytest.mark.anyio
async def test_an_unforeseen_error_of_a_cell_is_counted_when_no_request_waits_any_more(
    served: ServedCells,
    store: DirectoryStore,
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    publish(store, STREET)
    too_late = threading.Event()

    def fail_late(cell_id: str, digest: str) -> Buffer:
        too_late.wait(PATIENCE_S)
        return fail(cell_id, digest)

    monkeypatch.setattr(store, "get_segment", fail_late)
    (found,) = (await served.serve({"plane": time.monotonic() + 0.1})).values()
    assert isinstance(found, TooLate)
    too_late.set()
    with anyio.fail_after(PATIENCE_S):
        while failures(metrics) == 0:
            await asyncio.sleep(0.01)
    assert "cell plane cannot be loaded" in caplog.text


def fail(cell_id: str, digest: str) -> Buffer:
    raise ZeroDivisionError(f"segment {digest} of cell {cell_id}")


def failures(metrics: Metrics) -> float:
    labels = {"task": "versions"}
    return metrics.registry.get_sample_value("fingerpost_background_failures_total", labels) or 0.0


@pytest.mark.anyio
@pytest.mark.parametrize("removed", ["version", "cell"])
async def test_a_cell_whose_version_is_removed_while_it_is_loading_is_loaded_again(
    served: ServedCells, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, removed: str
) -> None:
    publish(store, STREET)
    read, reads = store.get_segment, []

    def read_late(cell_id: str, digest: str) -> Buffer:
        reads.append(digest)
        if len(reads) == 1 and removed == "cell":
            store.remove_cell(cell_id, None)
        elif len(reads) == 1:
            publish(store, STREET[:200])
            store.remove_versions(cell_id, [1])
        return read(cell_id, digest)

    monkeypatch.setattr(store, "get_segment", read_late)
    found = (await served.serve({"plane": math.inf}))["plane"]
    if removed == "cell":
        assert isinstance(found, CellNotFound)
    else:
        assert not isinstance(found, Exception)
        assert found.version.manifest.number == 2


@pytest.mark.anyio
async def test_requests_for_a_cell_that_is_loading_share_one_load(
    served: ServedCells, store: DirectoryStore, metrics: Metrics
) -> None:
    publish(store, STREET)
    versions = await asyncio.gather(*(version_served(served) for _ in range(20)))
    assert len(set(map(id, versions))) == 1
    assert metrics.registry.get_sample_value("fingerpost_cell_load_duration_seconds_count") == 1


@pytest.mark.anyio
async def test_the_least_recently_used_cells_are_evicted(
    store: DirectoryStore, engine: MateformerEngine, metrics: Metrics
) -> None:
    for name in "abc":
        import_fingerprints(store, make_cell(name), fingerprints_at(STREET[:150]), {}, ORIGIN)
    knobs = {"calibration_samples": 20, "calibration_sigmas_m": (1.0,)}
    whole = ServedCells(store, engine, Settings(**knobs), Metrics())
    (one,) = (await whole.serve({"a": math.inf})).values()
    assert not isinstance(one, Exception)

    budget = 2 * one.version.resident_bytes + one.version.resident_bytes // 2  # for two cells
    cells = ServedCells(store, engine, Settings(cell_memory_bytes=budget, **knobs), metrics)
    await cells.serve({"a": math.inf, "b": math.inf})
    await cells.serve({"a": math.inf})
    await cells.serve({"c": math.inf})
    assert [cells.held(name) is not None for name in "abc"] == [True, False, True]
    assert metrics.registry.get_sample_value("fingerpost_cells_evicted_total") == 1
    held = metrics.registry.get_sample_value("fingerpost_cell_memory_bytes")
    assert held is not None
    assert one.version.resident_bytes < held <= budget
    (again,) = (await cells.serve({"b": math.inf})).values()
    assert not isinstance(again, Exception)
    assert metrics.registry.get_sample_value("fingerpost_cell_lookups_total", {"result": "hit"}) == 1
    assert metrics.registry.get_sample_value("fingerpost_cell_lookups_total", {"result": "miss"}) == 4
    cells.close()


@pytest.mark.anyio
async def test_a_version_is_freed_with_its_last_reader(served: ServedCells, store: DirectoryStore) -> None:
    publish(store, STREET)
    reader = await version_served(served)
    publish(store, STREET[:200])
    await successor(served, reader)
    gone = weakref.ref(reader)
    del reader
    with anyio.fail_after(PATIENCE_S):
        while gone() is not None:  # the thread that made the new version may hold it a moment longer
            gc.collect()
            await asyncio.sleep(0.01)


def test_only_used_tiles_are_encoded_again(
    session: MateformerSession, estimator: Estimator, store: DirectoryStore
) -> None:
    publish(store, STREET)
    manifest = store.current("plane")
    assert manifest is not None
    before = CellVersion.assemble(read_contents(store, manifest))
    assert estimator.ahead.warm_tiles(before, estimator.ahead.tiles_in_use(before)) == 0
    locate(session, estimator, before, STREET[:4])
    assert estimator.ahead.warm_tiles(before, estimator.ahead.tiles_in_use(before)) == 0
