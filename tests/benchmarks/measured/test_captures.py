from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.measured.captures import compare_points, describe_captures
from benchmarks.measured.corridors import Corridor, find_null_subcarriers, read_corridors


def kept_for(minutes: float, corridor: Corridor) -> Corridor:
    """The null subcarriers of a chip that changes their values so often."""

    def refill(csi: np.ndarray, times: np.ndarray) -> np.ndarray:
        filled = csi.copy()
        filled[..., find_null_subcarriers()] = np.floor(times / 60 / minutes)[:, None, None]
        return filled

    survey, test = (replace(part, csi=refill(part.csi, part.times)) for part in (corridor.survey, corridor.test))
    return replace(corridor, survey=survey, test=test)


def test_pairs_share_null_values_by_time_and_not_by_place(file: Path) -> None:
    corridor = kept_for(60.0, read_corridors(file, "captured")[0])
    pairs = compare_points(corridor)
    points = 35
    assert len(pairs.equal) == points * (points - 1) // 2
    assert pairs.equal[pairs.minutes < 5].mean() > 0.8
    assert not pairs.equal[pairs.minutes > 61].any()


def test_the_report_shows_shares_by_time_and_place(file: Path) -> None:
    _, shares, gap = describe_captures([kept_for(1e9, one) for one in read_corridors(file, "captured")])
    assert "| captured apart by | 0 to 1.5 m | 1.5 to 5 m | 5 m or more |" in shares
    assert shares.count("100% of") == 5  # nobody went 1.5 m in ten minutes, or 5 m in an hour
    assert "captured 1.0 minutes before or after a test snapshot" in gap
