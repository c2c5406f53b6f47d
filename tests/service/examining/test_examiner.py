"""Versions examined in a process of its own: the same results, and nothing lost but what it worked on."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from models.artifact import MateformerArtifact, MateformerManifest, load_artifact
from reference_db import (
    CellVersion,
    DirectoryStore,
    Fingerprints,
    Update,
    append_fingerprints,
    delete_fingerprints,
    open_store,
    replace_cell,
)
from service import errors
from service.cells.examiner import LocalExaminer
from service.examining.examiner import ProcessExaminer
from service.inference.engine import MateformerEngine, start_engine
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.redis_servers import GUARD_S, RedisServer, redis_server_binary, wait_until
from tests.service.plane_cell import fingerprints_at as measured_at
from tests.service.plane_cell import make_cell, street
from tests.service.tiny_artifact import write_tiny_artifact
from tests.service.tiny_cell import ORIGIN

CELL = make_cell("plane")
QUICK = {"inference_threads": 1, "calibration_samples": 20, "calibration_sigmas_m": (1.0,)}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> MateformerArtifact:
    return write_tiny_artifact(tmp_path_factory.mktemp("artifact"))


@pytest.fixture(scope="module")
def engine(artifact: MateformerArtifact) -> Iterator[MateformerEngine]:
    engine = start_engine(artifact, Settings(**QUICK), Metrics())
    yield engine
    engine.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(database_directory=tmp_path / "database", **QUICK)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def examiner(settings: Settings, metrics: Metrics) -> Iterator[ProcessExaminer]:
    examiner = ProcessExaminer(settings, metrics.examiner)
    yield examiner
    examiner.close()
    assert examiner_processes() == []


def examiner_processes() -> list[psutil.Process]:
    children = psutil.Process().children()
    return [one for one in children if one.is_running() and "service.examining.child" in one.cmdline()]


def fingerprints(n: int, seed: int) -> Fingerprints:
    """Their first number is positive, which the tiny network wants."""
    measured = measured_at(street(n, seed))
    return replace(measured, csi=measured.csi * np.exp(-1j * np.angle(measured.csi[:, :1, :1])).astype(np.complex64))


def created(n: int = 600, seed: int = 1) -> Update:
    return replace_cell(None, CELL, fingerprints(n, seed), ORIGIN)


def counted(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(f"fingerpost_examiner_{name}_total")


def same_neighbours(one: CellVersion, other: CellVersion) -> bool:
    """Whether both find the same fingerprints, at the same distances, by signal and by position."""
    asked = np.random.default_rng(0).standard_normal((20, 2 * CELL.antennas * CELL.subcarriers)).astype(np.float32)
    pairs = [version.signals.nearest(asked, 9) + version.index.nearest(street(20, 9), 9) for version in (one, other)]
    same = all(np.array_equal(found, expected) for found, expected in zip(*pairs, strict=True))
    return same and one.references.knn_bandwidth == other.references.knn_bandwidth


def test_updates_get_the_same_index_canary_calibration_and_errors_as_in_this_process(
    examiner: ProcessExaminer, engine: MateformerEngine, settings: Settings
) -> None:
    local, before = LocalExaminer(settings), None
    first = created()
    second = append_fingerprints(first.contents, fingerprints(30, 2), ORIGIN)
    third = delete_fingerprints(second.contents, np.arange(630) < 40, ORIGIN)
    for contents in (first.contents, second.contents, third.contents):
        version, expected = examiner.assemble(contents, before), local.assemble(contents, before)
        assert same_neighbours(version, expected)
        canary, wanted = examiner.run_canary(engine, version, before), local.run_canary(engine, expected, before)
        assert (canary.errors.tolist(), canary.shift) == (wanted.errors.tolist(), wanted.shift)
        assert examiner.calibrate(engine, version) == local.calibrate(engine, expected)
        before = version


def test_the_shipped_model_gives_the_same_results_as_in_this_process(
    examiner: ProcessExaminer, settings: Settings, artifact_directory: Path
) -> None:
    local = LocalExaminer(settings)
    version = CellVersion.assemble(created(60).contents)
    shipped = start_engine(load_artifact(artifact_directory, MateformerManifest), settings, Metrics())
    try:
        rows = np.arange(0, 60, 7)
        errors_m = examiner.measure_errors(shipped, version, rows)
        assert errors_m.tolist() == local.measure_errors(shipped, version, rows).tolist()
        assert examiner.calibrate(shipped, version) == local.calibrate(shipped, version)
    finally:
        shipped.close()


@pytest.mark.parametrize("kind", ["directory", "redis"])
def test_a_version_of_the_store_is_read_there_and_new_segments_are_handed_over(
    kind: str, engine: MateformerEngine, tmp_path: Path
) -> None:
    server = None
    if kind == "redis":
        if redis_server_binary() is None:
            pytest.skip("there is no redis-server")
        server = RedisServer(tmp_path / "redis")
        settings = Settings(redis_url=server.url, **QUICK)
    else:
        settings = Settings(database_directory=tmp_path / "database", **QUICK)
    examiner = ProcessExaminer(settings, Metrics().examiner)
    try:
        store = open_store(settings.redis_url or settings.database_directory)
        first = created()
        store.publish(first.manifest, first.segments, None)
        version = CellVersion.assemble(first.contents)
        appended = append_fingerprints(first.contents, fingerprints(30, 2), ORIGIN)
        newer = examiner.assemble(appended.contents, version)
        expected = LocalExaminer(settings).run_canary(engine, newer, version)
        canary = examiner.run_canary(engine, newer, version)
        assert (canary.errors.tolist(), canary.shift) == (expected.errors.tolist(), expected.shift)
        store.close()
    finally:
        examiner.close()
        if server is not None:
            server.kill()


def test_a_version_that_the_store_has_lost_is_examined_all_the_same(
    examiner: ProcessExaminer, engine: MateformerEngine, settings: Settings
) -> None:
    update = created()
    store = DirectoryStore(settings.database_directory)
    store.publish(update.manifest, update.segments, None)
    store.remove_cell("plane", None)
    version = CellVersion.assemble(update.contents)
    assert examiner.calibrate(engine, version) == LocalExaminer(settings).calibrate(engine, version)


def test_it_starts_when_it_is_needed_and_only_indexing_anew_needs_it(
    examiner: ProcessExaminer, metrics: Metrics
) -> None:
    first = created()
    version = CellVersion.assemble(first.contents)
    appended = append_fingerprints(first.contents, fingerprints(30, 2), ORIGIN)
    examiner.assemble(appended.contents, version)
    assert (examiner_processes(), counted(metrics, "starts")) == ([], 0)
    examiner.assemble(first.contents, None)
    assert (len(examiner_processes()), counted(metrics, "starts")) == (1, 1)


def test_it_has_low_priority_and_bounded_memory(examiner: ProcessExaminer, settings: Settings) -> None:
    examiner.assemble(created().contents, None)
    (process,) = examiner_processes()
    assert process.nice() == 10
    if sys.platform == "linux":
        assert process.rlimit(psutil.RLIMIT_DATA) == (2**30 + settings.cell_memory_bytes,) * 2


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not bound private memory")
def test_work_that_takes_more_memory_than_it_may_is_refused_and_the_next_work_is_done(
    engine: MateformerEngine, settings: Settings, metrics: Metrics
) -> None:
    levels = tuple(np.linspace(1, 2, 1_000_000).tolist())
    greedy = settings.model_copy(update={"calibration_sigmas_m": levels, "cell_memory_bytes": 2**20})
    examiner = ProcessExaminer(greedy, metrics.examiner)
    version = CellVersion.assemble(created().contents)
    try:
        with pytest.raises(errors.OutOfMemory):
            examiner.calibrate(engine, version)
        assert np.isfinite(examiner.run_canary(engine, version, None).errors).all()
        assert (counted(metrics, "starts"), counted(metrics, "failures")) == (1, 0)
    finally:
        examiner.close()


def test_an_error_of_the_work_is_the_error_that_it_raises_here(
    examiner: ProcessExaminer, engine: MateformerEngine, settings: Settings
) -> None:
    small = CellVersion.assemble(created(10).contents)
    with pytest.raises(errors.CellTooSmall) as expected:
        LocalExaminer(settings).calibrate(engine, small)
    with pytest.raises(errors.CellTooSmall) as found:
        examiner.calibrate(engine, small)
    assert (str(found.value), found.value.invalid_params) == (str(expected.value), expected.value.invalid_params)


def test_what_a_killed_process_worked_on_fails_and_the_next_work_starts_another(
    examiner: ProcessExaminer, engine: MateformerEngine, metrics: Metrics
) -> None:
    version = examiner.assemble(created().contents, None)
    with ThreadPoolExecutor(1) as threads:
        (process,) = examiner_processes()
        process.suspend()
        calibration = threads.submit(examiner.calibrate, engine, version)
        wait_until(lambda: waiting(examiner) == 1, "the request is not sent")
        process.kill()
        with pytest.raises(errors.ExaminerEnded, match="killed"):
            calibration.result(GUARD_S)
    assert examiner.calibrate(engine, version).samples == 20
    assert (counted(metrics, "starts"), counted(metrics, "failures")) == (2, 1)


def test_changes_are_examined_at_once(examiner: ProcessExaminer, engine: MateformerEngine, settings: Settings) -> None:
    versions = [CellVersion.assemble(created(250, seed).contents) for seed in range(2)]
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda version: examiner.calibrate(engine, version), versions))
    assert found == [LocalExaminer(settings).calibrate(engine, version) for version in versions]


def test_closing_ends_it_at_once_whatever_it_works_on(
    examiner: ProcessExaminer, engine: MateformerEngine, metrics: Metrics
) -> None:
    version = examiner.assemble(created().contents, None)
    (process,) = examiner_processes()
    process.suspend()
    with ThreadPoolExecutor(1) as threads:
        calibration = threads.submit(examiner.calibrate, engine, version)
        wait_until(lambda: waiting(examiner) == 1, "the request is not sent")
        examiner.close()
        with pytest.raises(errors.NotReady):
            calibration.result(GUARD_S)
    assert not process.is_running()
    with pytest.raises(errors.NotReady):
        examiner.calibrate(engine, version)
    assert counted(metrics, "failures") == 0


def test_a_process_that_cannot_be_started_refuses_the_work(
    examiner: ProcessExaminer, engine: MateformerEngine, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = CellVersion.assemble(created().contents)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(errors.ExaminerEnded, match="cannot be started"):
            examiner.calibrate(engine, version)
    assert examiner.calibrate(engine, version).samples == 20
    assert (counted(metrics, "starts"), counted(metrics, "failures")) == (2, 1)


def waiting(examiner: ProcessExaminer) -> int:
    """Requests that were sent and have no reply yet."""
    return 0 if examiner._process is None else len(examiner._process._waiting)
