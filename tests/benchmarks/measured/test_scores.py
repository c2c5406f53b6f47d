from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measured.corridors import Snapshots, read_corridors
from benchmarks.measured.rivals import rivals
from benchmarks.measured.scores import Located, score_by_point

NAN = np.nan


def snapshots(*points: int) -> Snapshots:
    """At the origin, all of them."""
    n = len(points)
    csi = np.ones((n, 1, 64), np.complex64)
    return Snapshots(csi, np.zeros((n, 2), np.float32), np.array(points), np.zeros(n))


def located(east: list[float], inside: list[float], causes: dict[str, int] | None = None) -> Located:
    return Located(np.stack([east, np.zeros(len(east))], axis=1), np.array(inside), Counter(causes or {}))


def test_all_snapshots_of_a_point_give_one_error() -> None:
    score = score_by_point(located([1, 3, 8, 10], [1, 1, 0, 1]), snapshots(5, 5, 5, 7))
    np.testing.assert_allclose(score.single, [4, 10])
    np.testing.assert_allclose(score.several, [3, 10])
    assert score.coverage == pytest.approx((2 / 3 + 1) / 2)


def test_several_snapshots_are_better_than_one_where_errors_point_both_ways() -> None:
    score = score_by_point(located([-2, 0.1, 2], [1, 1, 1]), snapshots(1, 1, 1))
    assert score.several[0] == pytest.approx(0.1)
    assert score.single[0] == pytest.approx(4.1 / 3)


def test_refused_snapshots_are_counted_by_cause_and_leave_a_point_to_its_others() -> None:
    answers = located([NAN, 2, NAN, NAN], [NAN, 0, NAN, NAN], {"CSI_FOREIGN": 3})
    score = score_by_point(answers, snapshots(1, 1, 2, 2))
    np.testing.assert_allclose(score.single, [2])
    assert (score.silent, score.causes, score.coverage) == (1, {"CSI_FOREIGN": 3}, 0)


def test_where_no_error_is_stated_there_is_no_coverage() -> None:
    score = score_by_point(Located.without_ellipses(np.ones((2, 2), np.float32)), snapshots(1, 2))
    assert score.coverage is None


def test_rivals_are_scored_in_process(file: Path) -> None:
    for shown, count in (("channel", 4), ("captured", 5)):
        corridor, _ = read_corridors(file, shown)
        means = {name: score_by_point(locate(corridor), corridor.test).single for name, locate in rivals(shown).items()}
        centre, by_time, _, by_amplitudes, *by_null = means.values()
        assert len(means) == count
        assert {len(errors) for errors in means.values()} == {5}
        assert centre.mean() > 3
        np.testing.assert_allclose(by_time, 0.2, atol=1e-5)
        assert by_amplitudes.mean() < 1
        for errors in by_null:  # words that tell the place locate, although nothing was sent there
            assert errors.mean() < 1
