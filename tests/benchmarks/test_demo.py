import numpy as np
import pytest

from benchmarks.demo import CellResult, report

TRUTH = np.random.default_rng(0).uniform(0, 60, (50, 2)).astype(np.float32)


def result(fingerpost: float, knn: float, gnss: float) -> CellResult:
    """Everybody errs eastwards by the metres given."""
    east = np.array([1.0, 0.0])
    return CellResult(
        cell="cell",
        references=TRUTH,
        truth=TRUTH,
        gnss=TRUTH + gnss * east,
        fingerpost=TRUTH + fingerpost * east,
        radii=np.full(len(TRUTH), 1.0),
        latencies=np.full(len(TRUTH), 0.004),
        knn={"worse, k=1": (TRUTH + 2 * knn * east).astype(np.float32), "csi, k=3": (TRUTH + knn * east).astype("f4")},
    )


def test_the_last_line_has_the_four_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert report([result(fingerpost=0.3, knn=0.6, gnss=1.25)] * 2) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last == "demo: mean error 0.30 m, best kNN 0.60 m, GNSS 1.25 m, p50 latency 4.0 ms"


def test_the_demo_fails_when_knn_is_as_good() -> None:
    assert report([result(fingerpost=0.7, knn=0.6, gnss=1.25)]) == 1


def test_the_share_inside_the_stated_circle_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    report([result(fingerpost=0.3, knn=0.6, gnss=1.25), result(fingerpost=1.5, knn=2.0, gnss=3.0)])
    assert "50.0 % of the users are inside" in capsys.readouterr().out
