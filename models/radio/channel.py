"""Channel synthesis: a path table observed by an antenna array on a grid of subcarriers."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import TrainerError
from models.radio.front_end import Radio
from models.radio.path_table import PathTable
from reference_db.cell import AntennaArray
from reference_db.path_features import SPEED_OF_LIGHT


class NotPolarised(TrainerError):
    """A path table without horizontal gains cannot be observed by an array with two polarisations."""


def element_positions(array: AntennaArray, yaw: float) -> NDArray[np.float64]:
    """Element positions relative to the array's centre, float64 [rows · columns, 3] in wavelengths.

    The array is upright in the y-z plane with broadside along x, then turned by ``yaw`` (radians, counter-clockwise).
    Antenna ``row * columns + column``: row 0 is at the bottom, and columns count along y, which is from right to left
    seen from behind the array. The phase therefore rises with the column for a path that departs counter-clockwise of
    broadside. (Sionna's ``PlanarArray`` counts column by column, with row 0 at the top, and columns the same way.)
    """
    row, column = np.divmod(np.arange(array.rows * array.columns), array.columns)
    along = (column - (array.columns - 1) / 2) * array.spacing
    up = (row - (array.rows - 1) / 2) * array.spacing
    return np.stack([-np.sin(yaw) * along, np.cos(yaw) * along, up], axis=-1)


def subcarrier_offsets(subcarriers: int, bandwidth: float) -> NDArray[np.float64]:
    """Subcarrier frequencies relative to the carrier, float64 [subcarriers] in hertz; DC is subcarrier S // 2."""
    return (np.arange(subcarriers) - subcarriers // 2) * (bandwidth / subcarriers)


def synthesise(
    table: PathTable, radio: Radio, yaw: float, carrier_frequency: float | None = None
) -> NDArray[np.complex64]:
    """CSI of every user of the table, complex64 [users, antennas, subcarriers]; zero for a user without paths.

    Path p with gain g (exact at the carrier f_c, at the array's centre), delay τ and unit vector of departure k̂
    reaches element m at the position r_m (metres) after

    - plane wavefronts: ``τ - k̂·r_m / c`` at the carrier, and τ over the band;
    - spherical wavefronts: ``|c τ k̂ - r_m| / c``, because a specular path comes from an image source at ``c τ k̂``. This
      is exact at every subcarrier.

    ``carrier_frequency`` (hertz) other than the traced one changes phases and free-space loss. Reflections keep their
    loss. Raises `NotPolarised` for two polarisations of a table without horizontal gains.
    """
    carrier = carrier_frequency or table.site.carrier_frequency
    array = radio.array
    elements = element_positions(array, yaw) * (SPEED_OF_LIGHT / carrier)  # [elements, 3] metres
    zenith, azimuth = table.departure.astype(np.float64).T
    direction = np.stack(
        [np.sin(zenith) * np.cos(azimuth), np.sin(zenith) * np.sin(azimuth), np.cos(zenith)], axis=-1
    )  # [paths, 3]
    gains = _polarised_gains(table, array.polarisations) * _retuned(table, carrier)[:, None]  # [paths, polarisations]
    gains = gains * element_amplitude(radio.pattern, zenith, azimuth - yaw)[:, None]
    observe = _observe_spherical if radio.wavefronts == "spherical" else _observe_plane
    offsets_hz = subcarrier_offsets(radio.subcarriers, radio.bandwidth)

    csi = np.zeros((len(table.users), array.antennas, radio.subcarriers), np.complex64)
    for user in np.flatnonzero(table.reached):
        rows = slice(table.offsets[user], table.offsets[user + 1])
        delay = table.delay[rows].astype(np.float64)
        csi[user] = observe(direction[rows], delay, gains[rows], elements, offsets_hz, carrier)
    return csi


def _observe_plane(
    direction: NDArray[np.float64],  # [paths, 3]
    delay: NDArray[np.float64],  # [paths]
    gains: NDArray[np.complex128],  # [paths, polarisations]
    elements: NDArray[np.float64],  # [elements, 3]
    offsets_hz: NDArray[np.float64],
    carrier: float,
) -> NDArray[np.complex64]:
    """One user's CSI, [antennas, subcarriers]."""
    steering = np.exp(2j * np.pi * (carrier / SPEED_OF_LIGHT) * direction @ elements.T)  # [paths, elements]
    response = (gains[:, :, None] * steering[:, None]).reshape(len(delay), -1).astype(np.complex64)
    over_band = np.exp(-2j * np.pi * delay[:, None] * offsets_hz).astype(np.complex64)
    seen: NDArray[np.complex64] = np.einsum("pa,ps->as", response, over_band)
    return seen


def _observe_spherical(
    direction: NDArray[np.float64],
    delay: NDArray[np.float64],
    gains: NDArray[np.complex128],
    elements: NDArray[np.float64],
    offsets_hz: NDArray[np.float64],
    carrier: float,
) -> NDArray[np.complex64]:
    """One user's CSI, [antennas, subcarriers]."""
    source = SPEED_OF_LIGHT * delay[:, None] * direction  # [paths, 3]
    # |s - r| - |s| = (|r|² - 2 s·r) / (|s - r| + |s|): without the cancellation of two long distances.
    change = np.square(elements).sum(1) - 2 * source @ elements.T
    length = SPEED_OF_LIGHT * delay[:, None]
    extra = change / (np.sqrt(np.maximum(length**2 + change, 0)) + length) / SPEED_OF_LIGHT  # [paths, elements] seconds
    # Cycles of f_k (τ + extra) without f_c τ, which the gain has. Only the last term has both axes. It is below a few
    # cycles for any array, so single precision keeps it within 1e-6 of a cycle.
    cycles = _fraction(carrier * extra)[:, :, None] + _fraction(delay[:, None] * offsets_hz)[:, None]
    cycles += extra.astype(np.float32)[:, :, None] * offsets_hz.astype(np.float32)
    phase = np.float32(-2 * np.pi) * cycles
    waves = np.empty(phase.shape, np.complex64)  # [paths, elements, subcarriers]
    waves.real, waves.imag = np.cos(phase), np.sin(phase)
    seen: NDArray[np.complex64] = np.einsum("pq,pes->qes", gains.astype(np.complex64), waves)
    return seen.reshape(-1, len(offsets_hz))


def _fraction(cycles: NDArray[np.float64]) -> NDArray[np.float32]:
    """Cycles without the whole ones, which change no phase but cost single precision its digits."""
    fraction: NDArray[np.float32] = (cycles - np.rint(cycles)).astype(np.float32)
    return fraction


def _polarised_gains(table: PathTable, polarisations: int) -> NDArray[np.complex128]:
    """The gain of every path at antennas of each polarisation, [paths, polarisations].

    One polarisation is vertical. Two are slanted by +45 and by -45 degrees. (Sionna's ``cross`` begins with -45.)
    """
    if polarisations == 1:
        return table.gain[:, None].astype(np.complex128)
    if table.horizontal_gain is None:
        raise NotPolarised(f"{table.site.name} was traced with vertical antennas only: trace it again")
    slanted = [table.gain + table.horizontal_gain, table.gain - table.horizontal_gain]
    return np.stack(slanted, axis=1).astype(np.complex128) / np.sqrt(2)


def _retuned(table: PathTable, carrier: float) -> NDArray[np.complex128]:
    """The factor of every path's gain at another carrier than the traced one, [paths]."""
    traced = table.site.carrier_frequency
    cycles = (carrier - traced) * table.delay.astype(np.float64)
    factor: NDArray[np.complex128] = (traced / carrier) * np.exp(-2j * np.pi * cycles)
    return factor


def element_amplitude(
    pattern: Literal["isotropic", "tr38901"], zenith: NDArray[np.float64], off_broadside: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The amplitude of an element's pattern towards directions in radians, of any shape. 3GPP TR 38.901, table 7.3-1.

    The pattern has 8 dBi at broadside, 65° between its half-power points and 30 dB less behind the array.
    """
    if pattern == "isotropic":
        return np.ones_like(zenith)
    azimuth = np.degrees((off_broadside + np.pi) % (2 * np.pi) - np.pi)
    vertical = np.minimum(12 * ((np.degrees(zenith) - 90) / 65) ** 2, 30)
    horizontal = np.minimum(12 * (azimuth / 65) ** 2, 30)
    amplitude: NDArray[np.float64] = 10 ** ((8 - np.minimum(vertical + horizontal, 30)) / 20)
    return amplitude
