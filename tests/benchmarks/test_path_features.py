import math
from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.path_features import describe, measure_by_heads, wrap
from reference_db.path_features import estimate_path_features
from service.inference.lwlm_session import LwlmSession
from tests.service.measured_cells import heard_from, measured_cell
from tests.service.tiny_lwlm_artifact import write_tiny_lwlm_artifact

PLACES = np.array([[30.0, 5.0], [24.0, 18.0], [41.0, -3.0]])


@pytest.fixture(scope="module")
def lwlm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LwlmSession]:
    session = LwlmSession(write_tiny_lwlm_artifact(tmp_path_factory.mktemp("lwlm")), 1, ["CPUExecutionProvider"])
    yield session
    session.close()


def test_heads_are_turned_by_the_yaw_into_path_features(lwlm: LwlmSession) -> None:
    cell = measured_cell(yaw_deg=20.0)
    csi = np.stack([heard_from(cell, *place) for place in PLACES.tolist()])
    classical = estimate_path_features(csi, cell)
    aod, aoa, distance, gain = measure_by_heads(lwlm, csi, cell, classical).T
    np.testing.assert_allclose(aod, np.arctan2(PLACES[:, 1], PLACES[:, 0]), atol=1e-3)
    np.testing.assert_allclose(wrap(aoa - aod), -math.pi, atol=1e-9)
    np.testing.assert_allclose(distance, np.hypot(*PLACES.T), atol=0.05)
    np.testing.assert_array_equal(gain, classical[:, 3])


def test_angles_wrap_at_half_a_turn() -> None:
    np.testing.assert_allclose(
        wrap(np.array([0.1, 3.5, -3.5, 7.0])), [0.1, 3.5 - 2 * math.pi, 2 * math.pi - 3.5, 7 - 2 * math.pi]
    )


def test_errors_are_described_by_median_and_mean() -> None:
    assert describe(np.array([1.0, 2.0, 6.0])) == "2.00 (3.00)"
