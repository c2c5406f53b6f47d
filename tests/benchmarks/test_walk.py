import numpy as np
import pytest

from benchmarks.walk import PACE, Walked, draw_path, report


@pytest.mark.parametrize("seed", range(20))
def test_a_walker_keeps_the_pace_and_stays_where_the_fingerprints_are(seed: int) -> None:
    positions = np.random.default_rng(0).uniform((-40, 0), (40, 60), (2000, 2)).astype(np.float32)
    path = draw_path(positions, seed, most_s=60.0)
    assert len(path) == 121
    np.testing.assert_allclose(np.hypot(*np.diff(path, axis=0).T), PACE / 2)
    assert (path >= (-21, 14)).all()
    assert (path <= (21, 46)).all()


def test_latencies_are_shown_in_milliseconds() -> None:
    walked = Walked([0.001] * 98 + [0.01, 0.02], misses=1, encoded=2, used=1)
    assert (walked.at(0.5), walked.at(1.0)) == ("1.0", "20.0")
    assert "| a | b |" in report([["a", "b"]])
