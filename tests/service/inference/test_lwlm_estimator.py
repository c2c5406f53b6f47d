import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from reference_db import Cell
from reference_db.geodesy import FramePlace
from service.errors import CsiHasNoSignal, EstimateNotFinite, InferenceFailed
from service.inference.lwlm_estimator import LwlmEstimator, MeasuredUser, Snapshot, has_signal
from service.inference.lwlm_session import LwlmSession
from service.inference.session import ModelUnusable
from service.telemetry.stopwatch import Stopwatch
from tests.service.measured_cells import heard_from, measured_cell
from tests.service.tiny_lwlm_artifact import AOA_SIGMA, CONTRACT, RANGE_SIGMA, write_tiny_lwlm_artifact

ITSELF = FramePlace(0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LwlmSession]:
    artifact = write_tiny_lwlm_artifact(tmp_path_factory.mktemp("lwlm"))
    session = LwlmSession(artifact, 1, ["CPUExecutionProvider"])
    yield session
    session.close()


def snapshot(cell: Cell, east: float, north: float, place: FramePlace = ITSELF) -> Snapshot:
    csi = heard_from(cell, east, north)
    return Snapshot(cell, csi.view(np.float32).reshape(*csi.shape, 2), place)


def measure(session: LwlmSession, *users: tuple[Snapshot, ...]) -> list[MeasuredUser | Exception]:
    return list(session.submit(LwlmEstimator(session).locate, users, Stopwatch()).result())


def sound(one: MeasuredUser | Exception) -> MeasuredUser:
    assert isinstance(one, MeasuredUser)
    return one


@pytest.mark.parametrize("yaw_deg", [0.0, 90.0, -150.0])
def test_a_position_is_turned_by_the_yaw_of_the_array(session: LwlmSession, yaw_deg: float) -> None:
    cell = measured_cell(yaw_deg=yaw_deg)
    bearing = math.radians(yaw_deg + 20)
    east, north = 60 * math.cos(bearing), 60 * math.sin(bearing)
    (user,) = measure(session, (snapshot(cell, east, north),))
    (one,) = sound(user).stations
    assert (one.range, one.aoa) == pytest.approx((60, math.radians(20)), abs=1e-3)
    assert one.position == pytest.approx([east, north], abs=1e-2)
    # The axis along the ray has the sigma of the range, the other that of the angle.
    ray = np.array([math.cos(bearing), math.sin(bearing)])
    across = np.array([-ray[1], ray[0]])
    assert ray @ one.covariance @ ray == pytest.approx(RANGE_SIGMA**2, rel=1e-3)
    assert across @ one.covariance @ across == pytest.approx((60 * AOA_SIGMA) ** 2, rel=1e-3)
    assert sound(user).fused is None


def test_the_model_hears_how_high_above_the_user_the_antenna_is(session: LwlmSession) -> None:
    cell = measured_cell(height=21.5)
    (user,) = measure(session, (snapshot(cell, 40, 10),))
    (one,) = sound(user).stations
    assert one.range == pytest.approx(math.hypot(40, 10, 20), abs=1e-3)
    assert one.position == pytest.approx([40, 10], abs=1e-2)


def test_snapshots_of_different_shapes_are_measured_together(session: LwlmSession) -> None:
    cells = [measured_cell(), measured_cell(columns=16), measured_cell(subcarriers=32, bandwidth=20e6), measured_cell()]
    before = session.answers
    users = measure(session, *((snapshot(cell, 30 + 10 * i, -5),) for i, cell in enumerate(cells)))
    assert [sound(user).stations[0].position[0] for user in users] == pytest.approx([30, 40, 50, 60], abs=1e-2)
    assert session.answers - before == 3  # one run a shape


def test_several_base_stations_are_fused_in_their_common_frame(session: LwlmSession) -> None:
    here, there = measured_cell("here"), measured_cell("there", yaw_deg=180)
    user = (snapshot(here, 30, 8), snapshot(there, -70, 8, FramePlace(100, 0, 0)))
    alone, joined = map(sound, measure(session, user[:1], user))
    assert alone.fused is None
    assert joined.fused is not None
    assert [one.position for one in joined.stations] == [pytest.approx([30, 8], abs=1e-2)] * 2
    assert joined.fused.position == pytest.approx([30, 8], abs=1e-2)
    assert sum(joined.fused.weights) == pytest.approx(1)
    assert joined.fused.weights[0] > joined.fused.weights[1]  # the nearer one
    expected = sum(w * w * one.covariance for w, one in zip(joined.fused.weights, joined.stations, strict=True))
    assert joined.fused.covariance == pytest.approx(expected, rel=1e-4)


def test_an_answer_in_a_turned_frame_is_turned_with_its_covariance(session: LwlmSession) -> None:
    cell, turn = measured_cell("there", yaw_deg=30), math.radians(40)
    plain, turned = (
        sound(user).stations[0]
        for user in measure(
            session, (snapshot(cell, 30, 8),), (snapshot(cell, 30, 8, FramePlace(1000.0, -500.0, turn)),)
        )
    )
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    assert turned.position == pytest.approx(rotation @ plain.position + (1000, -500), abs=1e-3)
    assert turned.covariance == pytest.approx(rotation @ plain.covariance @ rotation.T, rel=1e-5)


def test_a_user_whom_the_model_cannot_measure_does_not_disturb_the_others(session: LwlmSession) -> None:
    cell = measured_cell()
    good, bad = snapshot(cell, 30, 0), snapshot(cell, 30, 0)
    bad = bad._replace(csi=-bad.csi)
    first, second, third = measure(session, (good,), (bad,), (good, bad))
    assert sound(first).stations[0].position == pytest.approx([30, 0], abs=1e-2)
    assert isinstance(second, EstimateNotFinite)
    assert isinstance(third, EstimateNotFinite)


def test_a_user_of_whom_a_base_station_hears_noise_alone_is_refused_by_name(session: LwlmSession) -> None:
    good = snapshot(measured_cell(), 30, 0)
    noise = good._replace(csi=np.random.default_rng(3).normal(size=good.csi.shape).astype(np.float32))
    first, second, third = measure(session, (good,), (noise,), (good, noise))
    assert sound(first).stations[0].position == pytest.approx([30, 0], abs=1e-2)
    assert isinstance(second, CsiHasNoSignal)
    assert second.invalid_params[0].param == "/csi/data"
    assert isinstance(third, CsiHasNoSignal)
    assert third.invalid_params[0].param == "/measurements/1/csi/data"


@pytest.mark.parametrize("level", [1e-14, 1.0, 1e8])
@pytest.mark.parametrize("shape", [(8, 64), (32, 128)])
def test_noise_of_any_level_and_shape_holds_no_signal(shape: tuple[int, int], level: float) -> None:
    noise = level * np.random.default_rng(4).normal(size=(200, *shape, 2))
    assert not any(has_signal(one) for one in noise.astype(np.float32))


def test_echoes_from_everywhere_stand_out_of_noise_10_db_below_them() -> None:
    """The hardest honest users: 20 equally strong echoes, between the points of the spectrum."""
    generator = np.random.default_rng(5)
    for _ in range(100):
        steps = generator.uniform(-np.pi, np.pi, (20, 1, 1)), generator.uniform(-1.5, 0, (20, 1, 1))
        phase = steps[0] * np.arange(8)[:, None] + steps[1] * np.arange(64)
        csi = np.exp(1j * (phase + generator.uniform(0, 2 * np.pi, (20, 1, 1)))).sum(0) / math.sqrt(20)
        csi = csi + generator.normal(size=(8, 64, 2)).view(complex)[..., 0] * math.sqrt(0.05)
        assert has_signal(csi.astype(np.complex64).view(np.float32).reshape(8, 64, 2))


def test_a_stopped_session_says_so(tmp_path: Path) -> None:
    session = LwlmSession(write_tiny_lwlm_artifact(tmp_path), 1, ["CPUExecutionProvider"])
    session.close()
    with pytest.raises(InferenceFailed):
        session.submit(session.prove)


def test_an_artifact_that_cannot_take_a_shape_of_its_contract_is_not_loaded(tmp_path: Path) -> None:
    no_slope = CONTRACT.model_copy(update={"subcarriers": (16, 1)})
    artifact = write_tiny_lwlm_artifact(tmp_path, no_slope)
    with pytest.raises(ModelUnusable, match="finite"):
        LwlmSession(artifact, 1, ["CPUExecutionProvider"])
