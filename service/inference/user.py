"""A user to be located by comparison with fingerprints, and the estimate of where the user is."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference_db.cell_version import CellVersion
from service.inference.belonging import Belonging
from service.inference.plausibility import PlausibilityLimits

_Floats = NDArray[np.float32]


class User(NamedTuple):
    """A user to be located in a cell: CSI float32 `[antennas, subcarriers, 2]`, finite and not all zero.

    `coarse` float32 `[2]` metres; `accuracy` is its 1-sigma error on each axis in metres. Both are NaN for a user
    without a coarse position. `limits`: what users of the cell keep to; None: unchecked. `belonging`: how strange their
    CSI is; None: not judged.
    """

    version: CellVersion
    csi: _Floats
    coarse: _Floats
    accuracy: float
    limits: PlausibilityLimits | None = None
    belonging: Belonging | None = None


class Estimate(NamedTuple):
    """A user's local position, float32 `[2]` metres, and its covariance, float32 `[2, 2]` square metres.

    Both are NaN where the model has no answer. The covariance is the model's own, not calibrated in this cell.
    `coarse_used`: whether the user had a coarse position that the signal does not contradict. `snr_db` of the CSI, and
    how likely it is among the cell's own users: a p-value in (0, 1], small for CSI that does not belong to the cell.
    `streams` float32 `[s]`: what the model read the estimate off, for tracks; empty where it locates none.
    """

    position: _Floats
    covariance: _Floats
    coarse_used: bool
    snr_db: float = math.inf
    belonging: float = 1.0
    streams: _Floats = np.empty(0, np.float32)
