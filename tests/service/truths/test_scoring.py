import math

import numpy as np
import pytest

from service.errors import TruthTooCoarse
from service.locating.recent_answers import GivenAnswer
from service.truths.scoring import score_answer

_NORTHWARDS = GivenAnswer(10.0, 20.0, 3.0, 1.0, 0, 95, "mateformer", "1-ab", "digest")


def test_the_error_is_answer_minus_truth() -> None:
    score = score_answer(_NORTHWARDS, 13.0, 16.0, 0.01)
    assert (score.east, score.north, score.error) == (-3.0, 4.0, 5.0)


@pytest.mark.parametrize(
    ("orientation_deg", "east", "north", "inside"),
    [
        (0, 0.0, 2.9, True),  # along the major axis, which points north
        (0, 2.9, 0.0, False),
        (90, 2.9, 0.0, True),  # clockwise from north: east
        (90, 0.0, 2.9, False),
        (45, 2.0, 2.0, True),
        (45, 2.0, -2.0, False),
    ],
)
def test_the_ellipse_is_turned_clockwise_from_north(
    orientation_deg: int, east: float, north: float, inside: bool
) -> None:
    answer = _NORTHWARDS._replace(orientation_deg=orientation_deg)
    assert score_answer(answer, 10.0 - east, 20.0 - north, 1e-6).inside is inside


@pytest.mark.parametrize("sigma", [1e-6, 0.3, 1.0])
@pytest.mark.parametrize("confidence", [50, 95])
def test_a_right_ellipse_holds_as_many_truths_as_stated_however_exact_they_are(sigma: float, confidence: int) -> None:
    rng = np.random.default_rng(0)
    k = math.sqrt(-2 * math.log(1 - confidence / 100))
    answer = GivenAnswer(0.0, 0.0, 2.0 * k, 1.0 * k, 90, confidence, "mateformer", "1-ab", "digest")
    users = rng.normal(size=(20_000, 2)) * (2.0, 1.0)
    truths = users + rng.normal(size=users.shape) * sigma
    inside = np.mean([score_answer(answer, east, north, sigma).inside for east, north in truths.tolist()])
    assert inside == pytest.approx(confidence / 100, abs=0.01)


def test_a_truth_that_is_worse_than_the_answer_claims_to_be_tells_nothing() -> None:
    with pytest.raises(TruthTooCoarse, match=r"3\.1 m"):
        score_answer(_NORTHWARDS, 10.0, 20.0, 3.1)


def test_an_ellipse_without_width_holds_what_lies_on_it() -> None:
    answer = _NORTHWARDS._replace(semi_minor=0.0)
    assert score_answer(answer, 10.0, 21.0, 1e-300).inside
    assert not score_answer(answer, 10.1, 21.0, 1e-300).inside


def test_an_answer_is_the_same_from_bytes() -> None:
    assert GivenAnswer.from_bytes(_NORTHWARDS.to_bytes()) == _NORTHWARDS
    for damaged in (b"", b"\x91\x01", b"\xc1"):
        with pytest.raises(ValueError, match=r".*"):
            GivenAnswer.from_bytes(damaged)
