"""Positions from measured ranges and angles: of one base station, and of several by robust weighted least squares."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RANGE_SIGMA = 1.0  # metres
ANGLE_SIGMA = np.radians(0.5)
STEPS = 10  # of reweighting


def position_from(
    range: NDArray[np.float64], off_broadside: NDArray[np.float64], height: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Position relative to the array, metres forward and to the left of broadside: float64 [..., 2].

    Args:
        range: length of the direct path in metres, [...]. A range below the height puts the user under the array.
        off_broadside: azimuth in radians counter-clockwise from broadside, [...].
        height: of the array above the user in metres, a number or [...].
    """
    ground = np.sqrt(np.maximum(range**2 - np.square(height), 0.0))
    return np.stack([ground * np.cos(off_broadside), ground * np.sin(off_broadside)], axis=-1)


def fuse_positions(
    stations: NDArray[np.float64], yaw: NDArray[np.float64], positions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Joins one user's positions by several base stations in one frame: float64 [n, 2] metres.

    Each position counts by its covariance: `RANGE_SIGMA` along the ray from its station, `ANGLE_SIGMA` times the
    distance across. A station that sees the user by an echo is far off. The sum of squares is therefore Cauchy's,
    ``Σ log(1 + d²)``, by iterative reweighting from the best of the single positions.

    Args:
        stations: east and north of the base stations, [n, b, 2] metres.
        yaw: of their arrays, [n, b] radians.
        positions: forward and left of each station as from `position_from`, [n, b, 2]; NaN where a station has none.
    """
    cos, sin = np.cos(yaw), np.sin(yaw)
    forward, left = positions[..., 0], positions[..., 1]
    points = stations + np.stack([forward * cos - left * sin, forward * sin + left * cos], axis=-1)
    measured = np.isfinite(points).all(axis=-1)  # [n, b]
    points = np.where(measured[..., None], points, 0.0)
    rays = points - stations
    distance = np.maximum(np.linalg.norm(rays, axis=-1, keepdims=True), 1.0)
    along = rays / distance
    across = np.stack([-along[..., 1], along[..., 0]], axis=-1)
    information = (
        along[..., None] * along[..., None, :] / RANGE_SIGMA**2
        + across[..., None] * across[..., None, :] / (ANGLE_SIGMA * distance[..., None]) ** 2
    ) * measured[..., None, None]  # [n, b, 2, 2]

    def squares(guess: NDArray[np.float64]) -> NDArray[np.float64]:
        off = guess[:, None] - points
        return np.einsum("nbi,nbij,nbj->nb", off, information, off)

    cost = np.stack([np.log1p(squares(points[:, one])).sum(axis=1) for one in np.arange(points.shape[1])], axis=1)
    best = np.where(measured, cost, np.inf).argmin(axis=1)
    guess = points[np.arange(len(points)), best]
    for _ in range(STEPS):
        weighted = information / (1 + squares(guess))[..., None, None]
        total = weighted.sum(axis=1) + 1e-12 * np.eye(2)
        guess = np.linalg.solve(total, np.einsum("nbij,nbj->ni", weighted, points)[..., None])[..., 0]
    return np.where(measured.any(axis=1)[:, None], guess, np.nan)
