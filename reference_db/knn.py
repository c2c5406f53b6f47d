"""The classical estimator that every model is compared with: weighted k nearest neighbours in CSI space."""

from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Feature = Literal["csi", "angle_delay", "angle_delay_fine"]

# A fair comparison tries them all and takes the best.
VARIANTS: tuple[tuple[Feature, int], ...] = tuple(
    (feature, k) for feature in ("csi", "angle_delay", "angle_delay_fine") for k in (1, 3, 5, 8, 12)
)

_Csi = NDArray[np.complex64]
_Value = TypeVar("_Value", np.complex64, np.float32)

_EPSILON = 1e-6
_CHUNK_BYTES = 64 * 2**20


def weighted_knn(
    csi: _Csi,
    neighbour_csi: _Csi,
    neighbour_positions: NDArray[np.float32],
    k: int,
    feature: Feature,
) -> NDArray[np.float32]:
    """Averages the positions of the k neighbours whose CSI is most like the user's, weighted by 1 / distance.

    Args:
        csi: complex `[b, antennas, subcarriers]`.
        neighbour_csi: complex `[b, n, antennas, subcarriers]`; `np.broadcast_to` shares one set for free.
        neighbour_positions: `[b, n, 2]`, metres.
        k: how many neighbours count, 1 to n.
        feature: "csi" compares the channels up to gain and common phase, `1 - |<h, g>| / (|h| |g|)`;
            "angle_delay" takes the Euclidean distance between the unit-norm magnitudes of their 2-D DFTs, and
            "angle_delay_fine" the same with three bins for every two antennas and subcarriers.

    Returns:
        Positions float32 `[b, 2]`, metres.

    Raises:
        ValueError: k outside 1 to n, or CSI without power or not finite.
    """
    positions: NDArray[np.float32] = _for_every_k(csi, neighbour_csi, neighbour_positions, (k,), feature)[0]
    return positions


def every_variant(
    csi: _Csi, neighbour_csi: _Csi, neighbour_positions: NDArray[np.float32]
) -> dict[tuple[Feature, int], NDArray[np.float32]]:
    """`weighted_knn` of every feature and k of `VARIANTS`, the distances of a feature computed once."""
    positions: dict[tuple[Feature, int], NDArray[np.float32]] = {}
    for feature in dict.fromkeys(feature for feature, _ in VARIANTS):
        ks = tuple(k for named, k in VARIANTS if named == feature)
        estimates = _for_every_k(csi, neighbour_csi, neighbour_positions, ks, feature)
        positions |= {(feature, k): estimate for k, estimate in zip(ks, estimates, strict=True)}
    return positions


def _for_every_k(
    csi: _Csi, neighbour_csi: _Csi, neighbour_positions: NDArray[np.float32], ks: tuple[int, ...], feature: Feature
) -> NDArray[np.float32]:
    """Positions float32 `[len(ks), b, 2]`."""
    batch, n = neighbour_csi.shape[:2]
    for k in ks:
        if not 1 <= k <= n:
            raise ValueError(f"k is {k}, must be 1 to {n}")
    positions = np.empty((len(ks), batch, 2), dtype=np.float32)
    # The working copy of a chunk, not the whole batch's, is what must fit into memory.
    step = max(1, _CHUNK_BYTES // (8 * max(1, neighbour_csi[0].size))) if batch else 1
    for start in range(0, batch, step):
        rows = slice(start, start + step)
        d = _distances(csi[rows], neighbour_csi[rows], feature)  # [c, n]
        for i, k in enumerate(ks):
            nearest = np.argpartition(d, k - 1, axis=1)[:, :k]
            weights = 1.0 / (np.take_along_axis(d, nearest, axis=1) + _EPSILON)
            weights /= weights.sum(axis=1, keepdims=True)
            chosen = np.take_along_axis(neighbour_positions[rows], nearest[..., None], axis=1)
            positions[i, rows] = np.einsum("ck,ckx->cx", weights, chosen)
    return positions


def _distances(csi: _Csi, neighbour_csi: _Csi, feature: Feature) -> NDArray[np.float32]:
    if feature == "csi":
        h, g = _unit(csi), _unit(neighbour_csi)  # [c, a s], [c, n, a s]
        alignment: NDArray[np.float32] = np.abs(np.matmul(g.conj(), h[..., None])[..., 0])
        return np.clip(1 - alignment, 0, 1)
    bins_per_sample = {"angle_delay": 1.0, "angle_delay_fine": 1.5}[feature]
    bins = [round(bins_per_sample * size) for size in csi.shape[-2:]]
    h_bins, g_bins = (_unit(np.abs(np.fft.fft2(each, s=bins))) for each in (csi, neighbour_csi))
    distances: NDArray[np.float32] = np.linalg.norm(g_bins - h_bins[:, None], axis=-1)
    return distances


def _unit(values: NDArray[_Value]) -> NDArray[_Value]:
    flat = values.reshape(*values.shape[:-2], -1)
    peak = np.abs(flat).max(axis=-1, keepdims=True)
    if not (np.isfinite(peak) & (peak > 0)).all():
        raise ValueError("csi must be finite and not all zero")
    flat = flat / peak  # first, so that the power of very faint or loud channels is a normal float32
    unit: NDArray[_Value] = flat / np.linalg.norm(flat, axis=-1, keepdims=True)
    return unit
