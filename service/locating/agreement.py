"""Whether base stations agree where a user is, and a circle that holds their answers where they do not."""

import math

import numpy as np
from numpy.typing import NDArray

from models.artifact import RADII_CONFIDENCE

_Floats = NDArray[np.float64]

# Base stations whose covariances are right disagree by chance once in a thousand users.
_DISAGREE_BELOW = 0.001
# Of a plane normal distribution, the Mahalanobis distance within which the confident share lies.
_NORMAL_SCALE = math.sqrt(-2 * math.log(1 - RADII_CONFIDENCE))
_CERTAIN = 1500.0  # a sum of squares of which no float can hold the probability


def do_agree(positions: _Floats, covariances: _Floats, scale: float) -> bool:
    """Whether errors as large as predicted explain how far apart the positions lie.

    Positions `[n, 2]` in one frame, their predicted covariances `[n, 2, 2]`, and the Mahalanobis distance within which
    `RADII_CONFIDENCE` of the model's errors lie. A chi-square test: with their weighted mean in place of the unknown
    position, the squared distances sum to chi-square of 2 (n - 1) degrees of freedom.
    """
    information = np.linalg.inv(covariances * (scale / _NORMAL_SCALE) ** 2)
    mean = np.linalg.solve(information.sum(axis=0), np.einsum("nij,nj->i", information, positions))
    away = positions - mean
    half = float(np.einsum("ni,nij,nj->", away, information, away)) / 2
    if half > _CERTAIN / 2:
        return False
    # The survival function, a finite sum for an even number of degrees of freedom.
    probability = math.exp(-half) * sum(half**k / math.factorial(k) for k in range(len(positions) - 1))
    return probability >= _DISAGREE_BELOW


def covering_radius(position: _Floats, positions: _Floats, covariances: _Floats, scale: float) -> float:
    """The radius of the circle around `position` `[2]` that holds the circle of every base station.

    It holds the user if the circle of any of them does. The other arguments are those of `do_agree`.
    """
    own = scale * np.sqrt(np.linalg.eigvalsh(covariances)[:, -1])
    return float((np.linalg.norm(positions - position, axis=1) + own).max())
