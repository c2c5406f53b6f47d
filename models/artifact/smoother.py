"""The Kalman smoother: a user keeps a nearly constant velocity, and each estimate has the error that it states.

It is the rival of the track network, and what the network corrects. All snapshots are given at once, so the smoother is
written as the Gaussian conditional that the forward and backward recursions compute.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.frozen import FrozenModel

ANYWHERE_M = 1e3  # 1 sigma of the first place before anything is measured

_Doubles = NDArray[np.float64]


class Motion(FrozenModel):
    """How users move. Time is in mean gaps between the snapshots of a track.

    Estimates of one user share a part of their errors (fixes, the same echoes), and errors have heavier tails than
    Gaussians: so the stated covariances are multiplied by ``trust``.
    """

    speed: float = Field(gt=0, description="Metres a gap, 1 sigma on each axis.")
    wander: float = Field(gt=0, description="Of the velocity: metres a gap in one gap, 1 sigma.")
    trust: float = Field(gt=0, description="What stated covariances are multiplied by.")


class Smoothed(NamedTuple):
    positions: _Doubles  # [w, t, 2] metres
    covariances: _Doubles  # [w, t, 2, 2] square metres


def smooth(
    estimates: NDArray[np.floating], covariances: NDArray[np.floating], elapsed: NDArray[np.floating], motion: Motion
) -> Smoothed:
    """Estimates [w, t, 2] with their covariances [w, t, 2, 2], measured at times ``elapsed`` [w, t] that ascend."""
    w, t = elapsed.shape
    centre = estimates.mean(axis=1, keepdims=True, dtype=np.float64)
    prior = np.einsum("wij,ab->wiajb", _prior(elapsed, motion), np.eye(2)).reshape(w, 2 * t, 2 * t)
    stated = motion.trust * covariances.astype(np.float64)
    noise = np.einsum("wiab,ij->wiajb", stated, np.eye(t)).reshape(w, 2 * t, 2 * t)
    gain = np.linalg.solve(prior + noise, prior).transpose(0, 2, 1)  # prior (prior + noise)^-1
    offset = (estimates - centre).reshape(w, 2 * t, 1)
    positions = (gain @ offset).reshape(w, t, 2) + centre
    # noise of the gain form: gain * noise is the posterior, and keeps small variances beside a wide prior
    posterior = (gain @ noise).reshape(w, t, 2, t, 2)
    own = np.einsum("wiaib->wiab", posterior)
    return Smoothed(positions, (own + own.swapaxes(-1, -2)) / 2)


def _prior(elapsed: NDArray[np.floating], motion: Motion) -> _Doubles:
    """Covariance [w, t, t] of the coordinate of a user whose velocity is a random walk."""
    since = (elapsed - elapsed[:, :1]).astype(np.float64)
    early, late = np.minimum(since[:, :, None], since[:, None]), np.maximum(since[:, :, None], since[:, None])
    wandered = early**3 / 3 + early**2 * (late - early) / 2  # of an integrated random walk
    went = motion.speed**2 * since[:, :, None] * since[:, None]
    prior: _Doubles = ANYWHERE_M**2 + went + motion.wander**2 * wandered
    return prior
