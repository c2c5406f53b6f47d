"""Weighted k-nearest-neighbour positioning in CSI space: the classical baseline that every model is compared with."""

from collections.abc import Mapping
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Feature = Literal["csi", "angle_delay", "angle_delay_fine", "aligned"]

FEATURES: tuple[Feature, ...] = ("csi", "angle_delay", "angle_delay_fine", "aligned")

# A fair comparison tries all of these and takes the best.
VARIANTS: tuple[tuple[Feature, int], ...] = tuple((feature, k) for feature in FEATURES for k in (1, 3, 5, 8, 12))

_Csi = NDArray[np.complex64]
_Value = TypeVar("_Value", np.complex64, np.float32)

FIX_SHARES = (0.25, 0.5, 0.75)  # weights of the fix in an average of the kNN estimate and the fix

_GATE_SIGMAS = 3.0
_EPSILON = 1e-6
_SNAPSHOTS_AT_ONCE = 256  # the FFTs of more would not fit into the processor's cache


def weighted_knn(
    csi: _Csi,
    neighbour_csi: _Csi,
    neighbour_positions: NDArray[np.float32],
    k: int,
    feature: Feature,
) -> NDArray[np.float32]:
    """Averages the positions of the k neighbours with the most similar CSI, weighted by 1 / distance.

    Args:
        csi: complex `[b, antennas, subcarriers]`.
        neighbour_csi: complex `[b, n, antennas, subcarriers]`; `np.broadcast_to` shares one set without a copy.
        neighbour_positions: `[b, n, 2]`, metres.
        k: number of neighbours to average, 1 to n.
        feature: how CSI is compared, see `csi_distances`.

    Returns:
        Positions float32 `[b, 2]`, metres.

    Raises:
        ValueError: k is outside 1 to n, or CSI is all zero or not finite.
    """
    batch, n = neighbour_csi.shape[:2]
    _check_k(k, n)
    positions = np.empty((batch, 2), dtype=np.float32)
    for row in range(batch):
        distances = csi_distances(csi[row, None], neighbour_csi[row], feature)
        (positions[row],) = _average(*_most_alike(distances, k), neighbour_positions[row])
    return positions


def csi_distances(csi: _Csi, reference_csi: _Csi, feature: Feature) -> NDArray[np.float32]:
    """Distances float32 `[u, r]` between users' CSI `[u, antennas, subcarriers]` and references' `[r, ...]`.

    The features are:

    - "csi": channels up to gain and common phase, `1 - |<h, g>| / (|h| |g|)`;
    - "angle_delay": Euclidean distance between the unit-norm magnitudes of the 2-D DFTs (angle-delay spectra);
    - "angle_delay_fine": the same, with three bins for every two antennas and subcarriers;
    - "aligned": the same as "angle_delay_fine", after delay compensation of each snapshot.

    Raises `ValueError` for CSI that is all zero or not finite.
    """
    if feature == "csi":
        alignment = np.abs(_unit(csi) @ _unit(reference_csi).conj().T)
        misalignment: NDArray[np.float32] = np.clip(1 - alignment, 0, 1)
        return misalignment
    # float64, because |h|² + |g|² - 2 <h, g> cancels where users are alike.
    h, g = (_magnitudes(each, feature).astype(np.float64) for each in (csi, reference_csi))
    squared = np.square(h).sum(axis=1)[:, None] + np.square(g).sum(axis=1) - 2 * (h @ g.T)
    distances: NDArray[np.float32] = np.sqrt(np.maximum(squared, 0)).astype(np.float32)
    return distances


def csi_distances_by_feature(csi: _Csi, reference_csi: _Csi) -> dict[Feature, NDArray[np.float32]]:
    """`csi_distances` for every feature in `FEATURES`."""
    return {feature: csi_distances(csi, reference_csi, feature) for feature in FEATURES}


def knn_by_variant(
    distances: Mapping[Feature, NDArray[np.float32]],
    reference_positions: NDArray[np.float32],
    candidates: NDArray[np.bool_] | None = None,
) -> dict[tuple[Feature, int], NDArray[np.float32]]:
    """Weighted kNN with every feature and k in `VARIANTS`: positions float32 `[u, 2]`, metres.

    Args:
        distances: `[u, r]` for each feature, from `csi_distances_by_feature`.
        reference_positions: `[r, 2]`, metres.
        candidates: bool `[u, r]`, the references that each user is compared with; all by default.

    Raises:
        ValueError: a user has fewer candidates than the largest k.
    """
    largest = max(k for _, k in VARIANTS)
    _check_k(largest, int(candidates.sum(axis=1).min()) if candidates is not None else len(reference_positions))
    positions: dict[tuple[Feature, int], NDArray[np.float32]] = {}
    for feature in FEATURES:
        d = distances[feature] if candidates is None else np.where(candidates, distances[feature], np.inf)
        chosen, their_distances = _most_alike(d, largest)
        for k in (k for name, k in VARIANTS if name == feature):
            positions[feature, k] = _average(chosen[:, :k], their_distances[:, :k], reference_positions)
    return positions


def knn_baselines(
    distances: Mapping[Feature, NDArray[np.float32]],
    reference_positions: NDArray[np.float32],
    coarse: NDArray[np.float32] | None,
    sigma: float,
    neighbours: int,
) -> dict[str, NDArray[np.float32]]:
    """`knn_by_variant` over the whole cell and, with a coarse position, with every way of using it: float32 `[u, 2]`.

    With a coarse position, the variants also run over the ``neighbours`` references nearest to it, and over those
    together with all references within 3 sigma of it. Each estimate is also averaged with the coarse position, with
    the weights `FIX_SHARES`.

    Args:
        distances: `[u, r]` for each feature, from `csi_distances_by_feature`.
        reference_positions: `[r, 2]`, metres.
        coarse: `[u, 2]`, metres, or None.
        sigma: 1-sigma error of the coarse position on each axis, metres.
        neighbours: at least the largest k in `VARIANTS`.
    """
    candidates: dict[str, NDArray[np.bool_] | None] = {"of the cell": None}
    if coarse is not None:
        away = np.linalg.norm(reference_positions - coarse[:, None], axis=-1)
        near = away <= np.partition(away, neighbours - 1, axis=1)[:, neighbours - 1 : neighbours]
        candidates |= {f"of the {neighbours} nearest": near, "within 3 sigma": near | (away <= _GATE_SIGMAS * sigma)}
    baselines = {}
    for scope, allowed in candidates.items():
        for (feature, k), points in knn_by_variant(distances, reference_positions, allowed).items():
            name = f"{feature} k={k} {scope}"
            baselines[name] = points
            if coarse is not None:
                mixed = {f"{name}, {share:.0%} fix": points + share * (coarse - points) for share in FIX_SHARES}
                baselines |= mixed
    return baselines


def _check_k(k: int, n: int) -> None:
    if not 1 <= k <= n:
        raise ValueError(f"k is {k}, must be 1 to {n}")


def _most_alike(distances: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Indices and distances `[u, k]` of the k smallest entries in each row of `[u, r]`, smallest first."""
    nearest = np.argpartition(distances, k - 1, axis=1)[:, :k]
    d = np.take_along_axis(distances, nearest, axis=1)
    order = np.argsort(d, axis=1, kind="stable")
    return np.take_along_axis(nearest, order, axis=1), np.take_along_axis(d, order, axis=1)


def _average(
    chosen: NDArray[np.int64], distances: NDArray[np.float32], reference_positions: NDArray[np.float32]
) -> NDArray[np.float32]:
    weights = 1.0 / (distances + _EPSILON)
    weights /= weights.sum(axis=1, keepdims=True)
    averaged: NDArray[np.float32] = np.einsum("uk,ukx->ux", weights, reference_positions[chosen]).astype(np.float32)
    return averaged


def _magnitudes(csi: _Csi, feature: Feature) -> NDArray[np.float32]:
    """Unit-norm |2-D DFT| of `[n, antennas, subcarriers]`, float32 `[n, bins]`."""
    bins_per_sample = 1.0 if feature == "angle_delay" else 1.5
    bins_a, bins_s = (round(bins_per_sample * size) for size in csi.shape[-2:])
    magnitudes = np.empty((len(csi), bins_a * bins_s), dtype=np.float32)
    for first in range(0, len(csi), _SNAPSHOTS_AT_ONCE):
        rows = slice(first, first + _SNAPSHOTS_AT_ONCE)
        # Scaled first, so that the magnitudes are normal float32.
        snapshots = _unit(csi[rows]).reshape(-1, *csi.shape[-2:])
        if feature == "aligned":
            snapshots = _compensate_delay(snapshots)
        spectrum: NDArray[np.float32] = np.abs(np.fft.fft2(snapshots, s=(bins_a, bins_s))).astype(np.float32)
        magnitudes[rows] = _unit(spectrum)
    return magnitudes


def _compensate_delay(csi: _Csi) -> _Csi:
    """Removes the phase ramp over subcarriers whose step is the phase of the lag-1 autocorrelation.

    This delay compensation removes a sampling-time offset (STO) exactly.
    """
    step = np.angle((csi[..., 1:] * csi[..., :-1].conj()).sum(axis=(-2, -1)))
    ramp = np.exp(-1j * step[:, None] * np.arange(csi.shape[-1])).astype(np.complex64)
    aligned: _Csi = csi * ramp[:, None]
    return aligned


def _unit(values: NDArray[_Value]) -> NDArray[_Value]:
    flat = values.reshape(*values.shape[:-2], -1)
    peak = np.abs(flat).max(axis=-1, keepdims=True)
    if not (np.isfinite(peak) & (peak > 0)).all():
        raise ValueError("csi must be finite and not all zero")
    flat = flat / peak  # scaled first, so that the power of a very weak or strong channel is a normal float32
    unit: NDArray[_Value] = flat / np.linalg.norm(flat, axis=-1, keepdims=True)
    return unit
