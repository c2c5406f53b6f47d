"""How far rounding may move a distance between two float32 positions that is computed in float32.

Let u = 2^-24 be the unit roundoff of float32. The index subtracts coordinates (1 + d1), squares them (1 + d2) and adds
two squares (1 + d3), each |d| <= u. All terms are positive, so the computed squared distance is the exact one times
(1 + d1)^2 (1 + d2) (1 + d3), within a factor 1 +- 4u. Its square root is within 1 +- 2u, and rounding the root to
float32 adds another u: a distance is within 1 +- 3u.

Let the index return position p as the k-th nearest. Squared distances are compared before the root, so up to the factor
1 +- 2u the distance of p is the k-th smallest of the computed distances, which is within 1 +- 2u of the k-th smallest
exact one. So the exact distance of p is within 1 +- 4u of the k-th smallest exact distance.

A radius is rounded to float32 and squared: (1 + d4)^2 (1 + d5), within 1 +- 3u (4u if the square is off by one unit in
the last place). Against a squared distance within 1 +- 4u, that decides about distances within 1 +- 4u of the radius.

All bounds get one more u, for terms in u^2. Differences below 1e-19 m square to less than float32 holds.
"""

import numpy as np
from numpy.typing import NDArray

_U = 2.0**-24

DISTANCE_RTOL = 4 * _U
RANK_RTOL = 5 * _U
RADIUS_RTOL = 5 * _U
ATOL = 1e-19  # metres

Floats = NDArray[np.float32]


def exact_distances(positions: Floats, centres: Floats) -> NDArray[np.float64]:
    """Distances float64 `[b, n]` from centres `[b, 2]` to positions `[n, 2]`."""
    return np.linalg.norm(positions[None].astype(np.float64) - centres[:, None].astype(np.float64), axis=-1)


def check_nearest(everything: NDArray[np.float64], indices: NDArray[np.int64], distances: Floats) -> None:
    """Checks the nearest neighbours `[b, k]` of centres whose distances to all positions are `everything` `[b, n]`."""
    k = indices.shape[1]
    assert (indices.dtype, distances.dtype) == (np.int64, np.float32)
    chosen = np.take_along_axis(everything, indices, axis=1)
    np.testing.assert_allclose(chosen, np.sort(everything, axis=1)[:, :k], rtol=RANK_RTOL, atol=ATOL)
    np.testing.assert_allclose(distances, chosen, rtol=DISTANCE_RTOL, atol=ATOL)
    assert all(len(set(row)) == k for row in indices.tolist())


def check_within(away: NDArray[np.float64], radius: float, found: NDArray[np.int64]) -> None:
    """Checks the positions found within a radius of a centre whose distances to all positions are `away` `[n]`."""
    blur = RADIUS_RTOL * radius
    assert found.dtype == np.int64
    assert (np.diff(found) > 0).all()
    assert set(np.flatnonzero(away <= radius - blur)) <= set(found.tolist())
    assert set(found.tolist()) <= set(np.flatnonzero(away <= radius + blur))
