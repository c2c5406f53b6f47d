"""Angle of arrival of the first path by MUSIC, the classical rival of LWLM's AoA.

MUSIC by itself finds directions, not which of them comes first. `estimate_first_angle` therefore applies it to the
channel at one delay: on the leading edge of the first path that the matched filter found, where later paths are still
weak. `estimate_strongest_angle` is the textbook form, with the subcarriers as snapshots. It takes the strongest path
for the first.

Threshold, subarray, number of paths and place on the edge were chosen on the validation streets of LWLM, one choice for
all bandwidths and arrays. A joint angle-delay MUSIC with smoothing over antennas and subcarriers was worse than
`estimate_first_angle` in all that were tried.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.baselines.matched_filter import find_first_arrival, subcarrier_window
from reference_db.path_features import SPEED_OF_LIGHT

PATHS = 2  # dimension of the signal subspace
SUBARRAY = 0.75  # of the antennas: the length of the subarrays that spatial smoothing averages over
THRESHOLD_DB = 17.0  # of the first path, below the strongest. A false first path costs an angle more than a range.
GATE = 1.2  # before the first path, in units of 1 / bandwidth: where its angle is measured
GRID = 1024  # phase steps per cycle that the pseudo-spectrum is evaluated at

_CHUNK = 64  # snapshots at once


def estimate_first_angle(
    csi: NDArray[np.complex64], spacing: float, bandwidth: float, height: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Azimuth of the first path off the broadside of a linear array: float64 [n] in [-pi/2, pi/2], radians.

    Args:
        csi: complex64 [n, antennas, subcarriers], at least two antennas.
        spacing: distance between antennas in wavelengths.
        bandwidth: in hertz.
        height: of the array above the users in metres, a number or [n].

    Raises:
        ValueError: a snapshot is all zero or not finite.
    """
    arrival = find_first_arrival(csi, bandwidth, THRESHOLD_DB)
    edge = gate_delay(csi, bandwidth, arrival - GATE / bandwidth)
    return off_broadside(find_direction(edge[..., None], spacing), SPEED_OF_LIGHT * arrival, height)


def estimate_strongest_angle(
    csi: NDArray[np.complex64], spacing: float, bandwidth: float, height: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """`estimate_first_angle` of the strongest path, from all subcarriers alike."""
    arrival = find_first_arrival(csi, bandwidth, THRESHOLD_DB)
    return off_broadside(find_direction(csi, spacing), SPEED_OF_LIGHT * arrival, height)


def gate_delay(csi: NDArray[np.complex64], bandwidth: float, delay: NDArray[np.float64]) -> NDArray[np.complex64]:
    """The windowed impulse response of each antenna at one delay [n] in seconds: complex64 [n, antennas]."""
    subcarriers = csi.shape[-1]
    turns = (delay * bandwidth / subcarriers)[:, None] * np.arange(subcarriers)
    filter_ = np.exp(2j * np.pi * turns) * subcarrier_window(subcarriers)
    return (csi @ filter_.astype(np.complex64)[..., None])[..., 0]


def find_direction(snapshots: NDArray[np.complex64], spacing: float) -> NDArray[np.float64]:
    """The strongest direction in each array's snapshots [n, antennas, snapshots]: the cone, float64 [n].

    The covariance is averaged over subarrays, forward and backward. The `PATHS` sharpest peaks of the MUSIC
    pseudo-spectrum are candidates, and the one with the most power in the signal subspace is chosen. The cone is the
    component of the unit direction along the array.
    """
    cone = np.empty(len(snapshots))
    for start in range(0, len(snapshots), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        cone[chunk] = _find_turn(smooth_covariance(snapshots[chunk])) / spacing
    return cone


def smooth_covariance(snapshots: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """The forward-backward average of the covariances of all subarrays, complex64 [n, subarray, subarray]."""
    antennas = snapshots.shape[1]
    subarray = min(max(PATHS + 1, int(SUBARRAY * antennas)), antennas)
    covariance = np.zeros((len(snapshots), subarray, subarray), np.complex64)
    for first in range(antennas - subarray + 1):
        part = snapshots[:, first : first + subarray]
        covariance += part @ part.conj().mT
    return covariance + covariance[:, ::-1, ::-1].conj()


def _find_turn(covariance: NDArray[np.complex64]) -> NDArray[np.float64]:
    """The phase step between antennas in cycles, [n] in [-1/2, 1/2), of the strongest path."""
    n, antennas, _ = covariance.shape
    eigenvalues, eigenvectors = np.linalg.eigh(covariance)
    paths = min(PATHS, antennas - 1)
    steered = np.fft.fft(eigenvectors[..., -paths:], GRID, axis=1)
    spectra = steered.real**2 + steered.imag**2  # [n, grid, paths]
    within = spectra.sum(axis=2)  # of the steering vector, the part in the signal subspace: MUSIC's peaks
    power = (spectra * eigenvalues[:, None, -paths:]).sum(axis=2)
    peak = (within >= np.roll(within, 1, axis=1)) & (within > np.roll(within, -1, axis=1))
    sharpness = np.where(peak, within, 0.0)
    candidate = peak & (sharpness >= np.sort(sharpness, axis=1)[:, -paths, None])
    best = np.where(candidate, power, -1.0).argmax(axis=1)
    row = np.arange(n)
    left, middle, right = (within[row, (best + step) % GRID] for step in (-1, 0, 1))
    between = (left - right) / np.minimum(2 * (left - 2 * middle + right), -1e-12)
    return ((best + np.clip(between, -0.5, 0.5)) / GRID + 0.5) % 1.0 - 0.5


def off_broadside(
    cone: NDArray[np.float64], distance: NDArray[np.float64], height: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Azimuth off broadside, float64 [n], of users ``height`` metres below the array at a distance [n] in metres.

    A linear array sees ``cone`` [n], the component of the unit direction along it. The elevation is that of the
    direct path. A distance below the height says nothing of the elevation.
    """
    down = np.where(distance > height, height / np.maximum(distance, 1e-3), 0.0)
    return np.arcsin(np.clip(cone / np.sqrt(1 - np.minimum(down, 0.99) ** 2), -1.0, 1.0))
