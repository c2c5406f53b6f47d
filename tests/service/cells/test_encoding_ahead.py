import asyncio
import math
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from service.cells.encoding_ahead import EncodingAhead
from service.inference.engine import MateformerEngine, start_engine
from service.inference.user import User
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.service.tiny_artifact import ANTENNAS, FEATURES, SUBCARRIERS, write_tiny_artifact
from tests.service.tiny_cell import cell_of, positive_csi

pytestmark = pytest.mark.anyio


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def engine(tmp_path: Path, metrics: Metrics) -> Iterator[MateformerEngine]:
    engine = start_engine(write_tiny_artifact(tmp_path, tile_pitch=2.0), Settings(inference_threads=1), metrics)
    yield engine
    engine.close()


@pytest.fixture
def user() -> User:
    east, north = np.meshgrid(np.arange(0, 41, 2.0), np.arange(0, 41, 2.0))
    version = cell_of(np.stack([east.ravel(), north.ravel()], axis=1).astype(np.float32))
    csi = positive_csi(1)[0].view(np.float32).reshape(ANTENNAS, SUBCARRIERS, 2)
    return User(version, csi, np.array([21, 21], np.float32), 0.1)


def encoded(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("fingerpost_frames_ahead_total", {"event": "encoded"}) or 0.0


def used(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("fingerpost_frames_ahead_total", {"event": "used"}) or 0.0


async def test_each_round_encodes_one_frame_around_a_user(
    engine: MateformerEngine, user: User, metrics: Metrics
) -> None:
    job = EncodingAhead(lambda: engine)
    await job.run_job()
    assert encoded(metrics) == 0
    await engine.dispatcher.locate(user, math.inf, "single")
    while not engine.dispatcher.is_idle:
        await asyncio.sleep(0.001)
    for count in range(1, 9):
        await job.run_job()
        assert encoded(metrics) == count
    await job.run_job()
    assert encoded(metrics) == 8
    assert not engine.estimator.ahead.may_encode


async def test_the_tiles_of_a_loaded_cell_are_encoded_one_in_each_round_after_those_around_its_users(
    engine: MateformerEngine, user: User, metrics: Metrics
) -> None:
    job = EncodingAhead(lambda: engine)
    await engine.dispatcher.locate(user, math.inf, "single")
    while not engine.dispatcher.is_idle:
        await asyncio.sleep(0.001)
    engine.estimator.ahead.note_loaded(user.version)
    for _ in range(4):  # of 441 fingerprints, 128 a time
        await job.run_job()
    assert engine.estimator.feature_bytes == 441 * 4 * FEATURES
    assert encoded(metrics) == 0
    for count in range(1, 12):
        await job.run_job()
        assert encoded(metrics) == count
    assert engine.estimator.ahead.may_encode
    beside = user._replace(coarse=np.array([23, 21], np.float32))
    await engine.dispatcher.locate(beside, math.inf, "single")
    assert used(metrics) == 1


async def test_nothing_is_encoded_ahead_while_users_wait(
    engine: MateformerEngine, user: User, metrics: Metrics
) -> None:
    job, free = EncodingAhead(lambda: engine), threading.Event()
    await engine.dispatcher.locate(user, math.inf, "single")
    engine.session.submit(free.wait)
    waiting = engine.dispatcher.locate(user, math.inf, "single")
    try:
        assert engine.estimator.ahead.may_encode
        await job.run_job()
        assert encoded(metrics) == 0
    finally:
        free.set()
    await waiting
