from dataclasses import replace

import numpy as np
import pytest

from benchmarks.demo import CellResult, is_inside, report
from fingerpost.wire_shapes import Local2dPointUncertaintyEllipse, LocalOrigin, LocalPoint, Point, UncertaintyEllipse

TRUTH = np.random.default_rng(0).uniform(0, 60, (50, 2)).astype(np.float32)


def result(fingerpost: float, knn: float, gnss: float | None) -> CellResult:
    """All estimates are off by these metres to the east."""
    east = np.array([1.0, 0.0])
    return CellResult(
        cell="cell",
        references=TRUTH,
        truth=TRUTH,
        gnss=None if gnss is None else TRUTH + gnss * east,
        fingerpost=TRUTH + fingerpost * east,
        inside=np.full(len(TRUTH), True),
        refused=1,
        latencies=np.full(len(TRUTH), 0.004),
        knn={"worse, k=1": (TRUTH + 2 * knn * east).astype(np.float32), "csi, k=3": (TRUTH + knn * east).astype("f4")},
    )


def test_the_last_line_has_the_four_figures_of_the_papers_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert report({"no GNSS": [result(0.4, 0.7, None)], "GNSS 1 m": [result(0.3, 0.6, 1.25)] * 2}) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last == "demo: mean error 0.30 m, best kNN 0.60 m, GNSS 1.25 m, p50 latency 4.0 ms"


def test_without_a_fix_there_is_a_line_without_gnss(capsys: pytest.CaptureFixture[str]) -> None:
    report({"no GNSS": [result(0.4, 0.7, None)], "GNSS 1 m": [result(0.3, 0.6, 1.25)]})
    assert "demo: no GNSS: mean error 0.40 m, best kNN 0.70 m, p50 latency 4.0 ms; 100.0 %" in capsys.readouterr().out


@pytest.mark.parametrize("worse", ["no GNSS", "GNSS 1 m"])
def test_the_demo_fails_if_knn_is_as_good_with_any_fix(worse: str) -> None:
    results = {fix: [result(0.7 if fix == worse else 0.3, 0.6, None)] for fix in ("no GNSS", "GNSS 1 m")}
    assert report(results) == 1


def test_the_share_inside_the_stated_ellipses_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    outside = replace(result(1.5, 2.0, 3.0), inside=np.full(len(TRUTH), False))
    report({"GNSS 1 m": [result(0.3, 0.6, 1.25), outside]})
    assert "50.0 % inside their stated 95 % ellipse, 2 of 102 refused as foreign" in capsys.readouterr().out


def test_a_position_is_inside_an_ellipse_along_its_orientation_only() -> None:
    estimate = Local2dPointUncertaintyEllipse(
        local_origin=LocalOrigin(coordinate_id="c", point=Point(lat=0, lon=0)),
        point=LocalPoint(x=10, y=20),
        uncertainty_ellipse=UncertaintyEllipse(semi_major=5, semi_minor=1, orientation_major=45),
        confidence=95,
    )
    assert is_inside(estimate, np.array([13.0, 23.0]))
    assert not is_inside(estimate, np.array([13.0, 17.0]))
