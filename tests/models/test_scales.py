"""Scales: conformal quantiles of Mahalanobis distances."""

import math

import numpy as np
import pytest
from pydantic import ValidationError

from models.artifact import CONFIDENCES, Scales


def test_scales_of_a_normal_distribution_are_the_quantiles_of_a_rayleigh_distribution_at_any_confidence() -> None:
    errors = np.random.default_rng(1).standard_normal((200_000, 2))
    scales = Scales.of_distances(np.linalg.norm(errors, axis=1))
    assert scales is not None
    for confidence in range(50, 100):
        expected = math.sqrt(-2 * math.log(1 - confidence / 100))
        assert scales.at(confidence).factor == pytest.approx(expected, rel=0.01)
        assert scales.at(confidence).confidence == confidence


def test_the_quantile_has_the_conformal_rank() -> None:
    scales = Scales.of_distances(np.arange(1.0, 20.0))  # 19 distances: rank 19 at 95 %, 10 at 50 %
    assert scales is not None
    assert scales.at(95) == (95, 19.0)
    assert scales.at(50) == (50, 10.0)


def test_a_confidence_that_few_distances_cannot_show_gives_way_to_the_highest_that_they_can() -> None:
    scales = Scales.of_distances(np.ones(18))
    assert scales is not None
    assert scales.at(99).confidence == 90
    assert Scales.of_distances(np.ones(0)) is None


def test_a_confidence_below_the_lowest_known_one_gets_that_one() -> None:
    assert Scales(factors={95: 2.0}).at(50) == (95, 2.0)


@pytest.mark.parametrize("factor", [0.0, -1.0, math.inf, math.nan])
def test_impossible_factors_are_refused(factor: float) -> None:
    with pytest.raises(ValidationError):
        Scales(factors={95: factor})


def test_scales_survive_json() -> None:
    scales = Scales.of_distances(np.linspace(0.1, 5, 300))
    assert scales is not None
    assert set(scales.factors) == set(CONFIDENCES)
    assert Scales.model_validate_json(scales.model_dump_json()) == scales
