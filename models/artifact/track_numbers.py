"""What the track network reads of a track besides the streams: the smoother's answer, and how far estimates
and fixes are from it.

Shapes: ``b`` tracks, ``t`` snapshots. Positions are metres east and north of the base station.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from models.artifact.smoother import Motion, smooth

FIX_SCALES_M = (0.5, 2.0, 8.0)  # a fix with this 1-sigma error weighs 1/2
TRACK_SCALE_M = 5.0
LARGEST_OFFSET = 8.0  # in standard deviations: estimates and fixes farther from the smoother look alike
SMALLEST_SIGMA_M = 0.02
NUMBERS = 20 + len(FIX_SCALES_M)  # of `describe_tracks`, for each snapshot

_Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Described:
    """The inputs of the network besides the streams, float32; names as in `TrackFormer.forward`."""

    numbers: _Floats  # [b, t, NUMBERS]
    smoothed: _Floats  # [b, t, 2]
    sigma: _Floats  # [b, t]


def describe_tracks(
    estimates: NDArray[np.floating],  # [b, t, 2]
    covariances: NDArray[np.floating],  # [b, t, 2, 2]
    fixes: NDArray[np.floating],  # [b, t, 2]
    accuracy: NDArray[np.floating],  # [b, t]; infinite without a fix
    elapsed: NDArray[np.floating],  # [b, t] seconds or any other unit
    motion: Motion,
) -> Described:
    """Smooths the tracks, and compares the estimates and the fixes with the smoother's answer."""
    b, t = elapsed.shape
    gaps = (elapsed - elapsed[:, :1]) / np.maximum(elapsed[:, -1:] - elapsed[:, :1], 1e-9) * (t - 1)
    places, spreads = smooth(estimates, covariances, gaps, motion)
    sigma = np.maximum(_sigma(spreads), SMALLEST_SIGMA_M)
    own = np.maximum(_sigma(covariances), SMALLEST_SIGMA_M)
    scale = sigma[..., None]
    weight = np.square(FIX_SCALES_M) / (np.square(FIX_SCALES_M) + np.square(accuracy)[..., None])  # [b, t, scales]
    away = np.clip((fixes - places) / scale, -LARGEST_OFFSET, LARGEST_OFFSET)
    steps = np.array([np.linalg.norm(late - early, axis=-1) for early, late in pairwise(places.swapaxes(0, 1))])
    stride = steps.mean(axis=0) if t > 1 else np.zeros(b)  # [b]
    distance = np.linalg.norm(places, axis=-1)
    columns = [
        np.clip((estimates - places) / scale, -LARGEST_OFFSET, LARGEST_OFFSET),
        np.log(sigma)[..., None],
        np.log(own)[..., None],
        _shape(spreads, sigma),
        _shape(covariances, own),
        weight,
        weight[..., :1] * away,
        weight[..., -1:] * away,
        places / np.maximum(distance, 1.0)[..., None],
        np.log(np.maximum(distance, 1.0) / 50)[..., None],
        (places - places.mean(axis=1, keepdims=True)) / TRACK_SCALE_M,
        np.broadcast_to(np.log(stride + 0.1)[:, None, None], (b, t, 1)),
        (gaps - gaps.mean(axis=1, keepdims=True))[..., None] / 3,
        np.full((b, t, 1), t / 10),
    ]
    numbers = np.concatenate(columns, axis=-1).astype(np.float32)
    return Described(numbers, places.astype(np.float32), sigma.astype(np.float32))


def _sigma(covariances: NDArray[np.floating]) -> NDArray[np.floating]:
    """The root mean square 1-sigma error on an axis [...] of covariances [..., 2, 2]."""
    sigma: NDArray[np.floating] = np.sqrt(np.trace(covariances, axis1=-2, axis2=-1) / 2)
    return sigma


def _shape(covariances: NDArray[np.floating], sigma: NDArray[np.floating]) -> NDArray[np.floating]:
    """How long an ellipse is and in which direction: [..., 2]."""
    unit = np.square(sigma)
    along = (covariances[..., 0, 0] - covariances[..., 1, 1]) / 2 / unit
    shape: NDArray[np.floating] = np.stack([along, covariances[..., 0, 1] / unit], axis=-1)
    return shape
