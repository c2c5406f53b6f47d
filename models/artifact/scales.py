"""How far errors reach beyond a predicted covariance, at every confidence."""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.frozen import FrozenModel

CONFIDENCES = (50, 60, 68, 80, 90, 95, 98, 99)  # per cent, that scales are measured at

_Confidence = Annotated[int, Field(ge=1, le=99)]
_Factor = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def conformal_rank(n: int, confidence: float) -> int:
    """Returns ceil((n + 1) · confidence), confidence between 0 and 1.

    Of n errors in rising order, the one of this rank bounds the next error with this confidence. A rank above n: none
    does.
    """
    # The tolerance keeps 0.95 · 20 at 19: in binary the product is slightly larger.
    return math.ceil((n + 1) * confidence - 1e-9)


class Scale(NamedTuple):
    """The share of errors, in per cent, whose Mahalanobis distance is at most `factor`."""

    confidence: int
    factor: float


class Scales(FrozenModel):
    """Mahalanobis distances of errors by confidence in per cent: conformal quantiles of measured distances."""

    factors: dict[_Confidence, _Factor] = Field(
        min_length=1, description="Mahalanobis distance by confidence in per cent."
    )

    @classmethod
    def of_distances(cls, distances: NDArray[np.floating]) -> Self | None:
        """The scales of Mahalanobis distances `[n]` that were measured; None where n is too small for any confidence.

        Confidences that n is too small for are left out.
        """
        ordered = np.sort(np.asarray(distances, np.float64))
        ranks = {one: conformal_rank(len(ordered), one / 100) for one in CONFIDENCES}
        factors = {one: float(ordered[rank - 1]) for one, rank in ranks.items() if rank <= len(ordered)}
        return cls(factors=factors) if factors else None

    def at(self, confidence: int) -> Scale:
        """The scale at a confidence in per cent, or at the nearest confidence that was measured.

        Between measured confidences the squared distance is linear in log(1 - confidence), as in a normal distribution.
        """
        measured = self.factors.get(confidence)
        if measured is not None:
            return Scale(confidence, measured)
        known = sorted(self.factors)
        asked = min(max(confidence, known[0]), known[-1])
        tails = [-math.log(1 - one / 100) for one in known]
        squares = [self.factors[one] ** 2 for one in known]
        return Scale(asked, math.sqrt(np.interp(-math.log(1 - asked / 100), tails, squares)))
