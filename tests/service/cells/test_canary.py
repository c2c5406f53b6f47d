"""The canary's test of a calibration: how often it errs."""

import math

import numpy as np
import pytest

from service.cells.calibration import Calibration, CalibrationLevel
from service.cells.canary import Canary, fewest_outside


def tail(samples: int, outside: int, share: float) -> float:
    """Probability that at least `outside` of `samples` users lie outside, where each does with probability `share`."""
    terms = (math.comb(samples, k) * share**k * (1 - share) ** (samples - k) for k in range(outside))
    return 1 - sum(terms)


@pytest.mark.parametrize(("samples", "confidence"), [(19, 0.95), (64, 0.95), (200, 0.95), (200, 0.68), (200, 0.99)])
def test_a_circle_that_keeps_its_promise_is_refused_in_at_most_a_twentieth_of_the_cases(
    samples: int, confidence: float
) -> None:
    fewest = fewest_outside(samples, confidence)
    assert tail(samples, fewest, 1 - confidence) <= 0.05 < tail(samples, fewest - 1, 1 - confidence)


def test_many_samples_do_not_underflow() -> None:
    """The probability that none of 20,000 lies outside is smaller than the smallest float."""
    sigma = math.sqrt(20_000 * 0.05 * 0.95)
    assert fewest_outside(20_000, 0.95) == pytest.approx(1000 + 1.645 * sigma, abs=2)


@pytest.mark.parametrize(
    ("samples", "coverage", "caught"), [(200, 0.90, 0.85), (200, 0.85, 0.999), (64, 0.90, 0.46), (64, 0.85, 0.86)]
)
def test_a_circle_that_holds_too_few_users_is_caught_as_often_as_documented(
    samples: int, coverage: float, caught: float
) -> None:
    assert tail(samples, fewest_outside(samples, 0.95), 1 - coverage) > caught


def canary(outside: int, samples: int = 200) -> Canary:
    return Canary(np.where(np.arange(samples) < outside, 2.0, 0.5), None)


def calibration(confidence: float = 0.95) -> Calibration:
    level = CalibrationLevel(sigma=None, radius=1.0, mean=0.5, median=0.5, p95=1.0)
    return Calibration.model_construct(  # a canary looks at the levels only
        artifact="a 1",
        retrieval="fused",
        confidence=confidence,
        samples=300,
        seed=0,
        fingerprints=1000,
        version=1,
        levels=[level],
    )


@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_a_canary_agrees_up_to_the_fewest_that_refute_the_confidence(confidence: float) -> None:
    fewest = fewest_outside(200, confidence)
    assert canary(fewest - 1).agrees(calibration(confidence))
    assert not canary(fewest).agrees(calibration(confidence))
