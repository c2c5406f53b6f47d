"""Compares an answer with the surveyed truth."""

import math
from typing import NamedTuple

from service.errors import TruthTooCoarse
from service.locating.recent_answers import GivenAnswer

_LEAST_SIGMA = 1e-6  # metres: no position is surveyed better, and an ellipse may have no width


class Score(NamedTuple):
    """The error of an answer, metres east and north, and whether its ellipse holds the truth."""

    answer: GivenAnswer
    east: float
    north: float
    inside: bool

    @property
    def error(self) -> float:
        return math.hypot(self.east, self.north)


def score_answer(answer: GivenAnswer, east: float, north: float, sigma: float) -> Score:
    """Compares an answer with a truth at `east`, `north` metres, whose own error is `sigma` metres on each axis.

    The difference of the two has the errors of both. The ellipse of confidence c reaches k standard deviations of a
    normal error, k² = -2 ln(1 - c), so each half axis a becomes √(a² + k² sigma²). Where the ellipse is right, it then
    holds a share c of truths, however exact they are. Raises `TruthTooCoarse` for a truth whose error is larger than
    the ellipse: it can tell nothing about it.
    """
    if sigma > answer.semi_major:
        raise TruthTooCoarse(
            "/sigma", f"is {sigma:g} m, but the answer claims to be right to {answer.semi_major:.2g} m"
        )
    away_east, away_north = answer.x - east, answer.y - north
    orientation = math.radians(answer.orientation_deg)
    along = away_east * math.sin(orientation) + away_north * math.cos(orientation)
    across = away_east * math.cos(orientation) - away_north * math.sin(orientation)
    widening = -2 * math.log1p(-min(answer.confidence, 99.99) / 100) * max(sigma, _LEAST_SIGMA) ** 2
    reached = along**2 / (answer.semi_major**2 + widening) + across**2 / (answer.semi_minor**2 + widening)
    return Score(answer, away_east, away_north, reached <= 1)
