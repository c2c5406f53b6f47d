"""Path features of a snapshot: departure and arrival angle, range and gain, estimated from the strongest path."""

import math

import numpy as np
from numpy.typing import NDArray

from reference_db.cell import Cell

SPEED_OF_LIGHT = 299_792_458.0
USER_HEIGHT = 1.5  # metres above the ground that the cell's `height` is measured from

_CHUNK = 256  # snapshots at once
_EARLY = 1 / 16  # of the unambiguous delays
_HALVINGS = 6  # refine the peak from one bin of the spectrum to 1/64 of a bin


def estimate_path_features(csi: NDArray[np.complex64], cell: Cell) -> NDArray[np.float64]:
    """Estimates AoD, AoA, range and gain of the strongest path in each snapshot: float64 `[n, 4]`.

    The columns are:

    - *AoD*: azimuth of departure at the base station, in radians counter-clockwise from east, from the peak of the
      angle-delay spectrum. A linear array cannot tell front from back; the estimate lies in front of the array. The
      elevation is that of a user on flat ground at the estimated range.
    - *AoA*: azimuth of arrival at the user, in radians. A user with one antenna cannot measure it. The value is the
      direction back to the base station, which is the AoA of a direct path.
    - *range*: length of the path in metres, from its absolute delay. A sampling-time offset adds to it, and it is
      ambiguous beyond `SPEED_OF_LIGHT · subcarriers / bandwidth`. The last sixteenth of that length is taken for
      arrivals before time zero, as early clocks and timing advance make them: their range is 0.
    - *gain*: mean power of the channel over antennas and subcarriers, linear.

    Args:
        csi: complex64 `[n, antennas, subcarriers]`, where `H[m, k] = Σ g · exp(j2π r_m·k̂) · exp(-j2π Δf_k τ)` and
            antenna m is in row `m // columns` of the array; the rows of a second polarisation follow those of the
            first. Columns count from right to left seen from behind the array, so the phase rises with the column for
            a path that departs counter-clockwise of broadside.
        cell: gives the array, its yaw and height, and the bandwidth.

    Raises:
        ValueError: CSI of another shape than the cell's, not finite, or all zero.
    """
    n = len(csi)
    if csi.shape[1:] != (cell.antennas, cell.subcarriers):
        raise ValueError(f"csi has shape {csi.shape[1:]}, the cell's has {(cell.antennas, cell.subcarriers)}")
    power = np.mean(csi.real.astype(np.float64) ** 2 + csi.imag.astype(np.float64) ** 2, axis=(1, 2))
    if not (np.isfinite(power) & (power > 0)).all():
        raise ValueError("csi must be finite and not all zero")
    path_features = np.empty((n, 4))
    for start in range(0, n, _CHUNK):
        rows = slice(start, start + _CHUNK)
        scaled = csi[rows] / np.sqrt(power[rows])[:, None, None].astype(np.float32)
        snapshots = scaled.reshape(-1, cell.array.lines, cell.array.columns, cell.subcarriers)
        turn, delay = find_strongest_path(snapshots)  # cycles per column, cycles per subcarrier
        delay = np.where(delay < 1 - _EARLY, delay, 0.0)
        distance = delay * cell.subcarriers / cell.bandwidth * SPEED_OF_LIGHT
        off_broadside = _off_broadside(turn / cell.array.spacing, distance, cell.height - USER_HEIGHT)
        departure = _wrapped(cell.yaw + off_broadside)
        path_features[rows] = np.column_stack([departure, _wrapped(departure + math.pi), distance, power[rows]])
    return path_features


def find_strongest_path(snapshots: NDArray[np.complex64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Finds the peak of the angle-delay spectrum of snapshots [n, rows, columns, subcarriers], summed over rows.

    Returns the phase step from each column to the next in cycles, in [-1/2, 1/2), and the phase step from each
    subcarrier to the next in cycles, in [0, 1): both [n].
    """
    n, _, columns, subcarriers = snapshots.shape
    bins = 2 * columns, 2 * subcarriers
    spectrum = np.fft.ifft(np.fft.fft(snapshots, bins[0], axis=2), bins[1], axis=3)
    power = (spectrum.real**2 + spectrum.imag**2).sum(axis=1)
    place = power.reshape(n, -1).argmax(axis=1)
    turn, delay = (place // bins[1]) / bins[0], (place % bins[1]) / bins[1]
    antenna, subcarrier = np.arange(columns), np.arange(subcarriers)
    around = np.array([-1.0, 0.0, 1.0])
    for halving in range(1, _HALVINGS + 1):
        turns = turn[:, None] + around / (bins[0] * 2**halving)  # [n, 3]
        delays = delay[:, None] + around / (bins[1] * 2**halving)
        over_antennas = np.exp(-2j * np.pi * turns[..., None] * antenna).astype(np.complex64)  # [n, 3, columns]
        over_subcarriers = np.exp(2j * np.pi * delays[..., None] * subcarrier).astype(np.complex64)
        spectrum = over_antennas[:, None] @ snapshots @ over_subcarriers.mT[:, None]  # [n, rows, 3, 3]
        best = (spectrum.real**2 + spectrum.imag**2).sum(axis=1).reshape(n, -1).argmax(axis=1)
        turn, delay = turns[np.arange(n), best // 3], delays[np.arange(n), best % 3]
    return (turn + 0.5) % 1.0 - 0.5, delay % 1.0


def _off_broadside(cone: NDArray[np.float64], distance: NDArray[np.float64], height: float) -> NDArray[np.float64]:
    """Azimuth from broadside in radians of a user ``height`` below the array.

    ``cone`` [n] is the component of the unit direction along the array, ``distance`` [n] the range in metres. A range
    shorter than the height is the fault of a clock and says nothing of the elevation.
    """
    down = np.clip(height / np.maximum(distance, 1e-3), -0.99, 0.99)
    down = np.where(distance < abs(height), 0.0, down)
    return np.arcsin(np.clip(cone / np.sqrt(1 - down**2), -1.0, 1.0))


def _wrapped(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    return (angle + math.pi) % (2 * math.pi) - math.pi
