"""What a snapshot says by itself of the way to its user: classical estimates of the strongest path."""

import math

import numpy as np
from numpy.typing import NDArray

from reference_db.cell import Cell

SPEED_OF_LIGHT = 299_792_458.0
USER_HEIGHT = 1.5  # metres above the ground that the cell's `height` is measured from

_CHUNK = 256  # snapshots at once
_HALVINGS = 6  # of a bin of the coarse spectrum, down to 1/64 of it


def estimate_cues(csi: NDArray[np.complex64], cell: Cell) -> NDArray[np.float64]:
    """Of snapshots `[n, antennas, subcarriers]`: departure, arrival, distance and gain, float64 `[n, 4]`.

    - *departure*: azimuth at the base station, radians counter-clockwise from east, where the angle-delay spectrum
      peaks. A linear array cannot tell front from back: the answer lies in front of it. The peak's cone is met at the
      depression of a user that far away on flat ground.
    - *arrival*: azimuth of the base station as the user sees it, radians. One antenna cannot tell: this is what the
      direct path's would be, and nothing is measured.
    - *distance*: metres along that path, by its delay; as good as the clocks are, and ambiguous beyond
      `SPEED_OF_LIGHT · subcarriers / bandwidth`.
    - *gain*: mean power of the channel over antennas and subcarriers, linear.

    The channel follows `H[m, k] = Σ g · exp(j2π r_m·k̂) · exp(-j2π Δf_k τ)`, antennas numbered column by column. Raises
    `ValueError` for CSI that is not of this cell's shape, not finite or all zero.
    """
    n = len(csi)
    if csi.shape[1:] != (cell.antennas, cell.subcarriers):
        raise ValueError(f"csi is {csi.shape[1:]}, the cell's is {(cell.antennas, cell.subcarriers)}")
    power = np.mean(csi.real.astype(np.float64) ** 2 + csi.imag.astype(np.float64) ** 2, axis=(1, 2))
    if not (np.isfinite(power) & (power > 0)).all():
        raise ValueError("csi must be finite and not all zero")
    cues = np.empty((n, 4))
    for start in range(0, n, _CHUNK):
        rows = slice(start, start + _CHUNK)
        scaled = csi[rows] / np.sqrt(power[rows])[:, None, None].astype(np.float32)
        looks = scaled.reshape(-1, cell.array.columns, cell.array.rows, cell.subcarriers)
        turn, delay = _peak(np.moveaxis(looks, 2, 1))  # cycles an antenna, cycles a subcarrier
        distance = delay * cell.subcarriers / cell.bandwidth * SPEED_OF_LIGHT
        off_broadside = _off_broadside(turn / cell.array.spacing, distance, cell.height - USER_HEIGHT)
        departure = _wrapped(cell.yaw + off_broadside)
        cues[rows] = np.column_stack([departure, _wrapped(departure + math.pi), distance, power[rows]])
    return cues


def _peak(looks: NDArray[np.complex64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the spectra of snapshots [n, rows, columns, subcarriers] peak, their rows' powers added.

    Returns cycles from each antenna to the next in [-1/2, 1/2), and of delay from each subcarrier to the next in
    [0, 1): both [n].
    """
    n, _, columns, subcarriers = looks.shape
    bins = 2 * columns, 2 * subcarriers
    spectrum = np.fft.ifft(np.fft.fft(looks, bins[0], axis=2), bins[1], axis=3)
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
        spectrum = over_antennas[:, None] @ looks @ over_subcarriers.mT[:, None]  # [n, rows, 3, 3]
        best = (spectrum.real**2 + spectrum.imag**2).sum(axis=1).reshape(n, -1).argmax(axis=1)
        turn, delay = turns[np.arange(n), best // 3], delays[np.arange(n), best % 3]
    return (turn + 0.5) % 1.0 - 0.5, delay % 1.0


def _off_broadside(cone: NDArray[np.float64], distance: NDArray[np.float64], height: float) -> NDArray[np.float64]:
    """Azimuth from broadside, radians, of a direction whose part along the array is ``cone`` [n], ``height`` below."""
    down = np.clip(height / np.maximum(distance, 1e-3), -0.99, 0.99)
    return np.arcsin(np.clip(cone / np.sqrt(1 - down**2), -1.0, 1.0))


def _wrapped(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    return (angle + math.pi) % (2 * math.pi) - math.pi
