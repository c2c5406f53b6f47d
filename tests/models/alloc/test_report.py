"""Figures over users and seeds."""

import numpy as np
import pytest

from models.alloc.report import Figures


def test_the_mean_is_over_seeds_and_percentiles_are_over_all_users() -> None:
    seeds = [np.arange(0, 101, dtype=np.float32), np.full(101, 30, np.float32)]
    figures = Figures.of(seeds)
    assert (figures.mean, figures.lowest, figures.highest) == (40, 30, 50)
    assert (figures.p10, figures.p90) == tuple(np.percentile(np.concatenate(seeds), (10, 90)))
    assert str(figures) == "40 (20-80)"


def test_of_several_variants_the_one_best_on_average_counts() -> None:
    good, bad = np.full(10, 0.5, np.float32), np.full(10, 2.0, np.float32)
    figures = Figures.of([np.stack([bad, good]), np.stack([bad, good * 1.1])])
    assert figures.mean == pytest.approx(0.525)
    assert str(figures) == "0.53 (0.50-0.55)"
