import numpy as np

from service.cells.calibration import AT_ONCE, label_errors
from service.inference.estimator import Estimator
from service.inference.mateformer_session import MateformerSession
from service.telemetry.metrics import Metrics
from tests.service.tiny_cell import cell_of, positive_csi


def estimator_of(session: MateformerSession) -> Estimator:
    return Estimator(session, 8, 2**20, Metrics())


def test_who_is_left_out_is_located_by_the_others_alone(session: MateformerSession) -> None:
    positions = np.array([[0, 0], [1, 0], [2, 0], [3, 0], [14, 0]], np.float32)  # fewer than a neighbourhood
    version, rows = cell_of(positions), np.array([4, 0])
    alone = label_errors(estimator_of(session), version, version, rows, left_out=True)
    np.testing.assert_allclose(alone, [14 - 1.5, 5], rtol=1e-6)
    beside_itself = label_errors(estimator_of(session), version, version, rows, left_out=False)
    np.testing.assert_allclose(beside_itself, [10, 4], rtol=1e-6)


def test_one_that_the_network_has_no_answer_to_is_nan_and_spoils_no_other(session: MateformerSession) -> None:
    n = AT_ONCE + 3
    csi = positive_csi(n)
    csi[1] *= -1
    version = cell_of(np.random.default_rng(0).uniform(0, 30, (n, 2)).astype(np.float32), csi)
    errors = label_errors(estimator_of(session), version, version, np.arange(n), left_out=True)
    assert np.flatnonzero(np.isnan(errors)).tolist() == [1]
