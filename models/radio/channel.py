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
    elements = element_positions(radio.array, yaw) * (SPEED_OF_LIGHT / carrier)  # [elements, 3] metres
    direction = departure_directions(table)
    gains = path_gains(table, radio, yaw, carrier).astype(np.complex64)
    offsets_hz = subcarrier_offsets(radio.subcarriers, radio.bandwidth)
    csi = np.zeros((len(table.users), radio.array.antennas, radio.subcarriers), np.complex64)
    for user in np.flatnonzero(table.reached):
        rows = slice(table.offsets[user], table.offsets[user + 1])
        delay = table.delay[rows].astype(np.float64)
        waves = observe_waves(radio.wavefronts, direction[rows], delay, elements, offsets_hz, carrier)
        csi[user] = np.einsum("pq,pes->qes", gains[rows], waves).reshape(csi.shape[1:])
    return csi


def departure_directions(table: PathTable) -> NDArray[np.float64]:
    """Unit vectors of departure, [paths, 3]."""
    zenith, azimuth = table.departure.astype(np.float64).T
    return np.stack([np.sin(zenith) * np.cos(azimuth), np.sin(zenith) * np.sin(azimuth), np.cos(zenith)], axis=-1)


def path_gains(table: PathTable, radio: Radio, yaw: float, carrier: float) -> NDArray[np.complex128]:
    """Gains at the centre of the array and at this carrier (hertz), [paths, polarisations].

    One polarisation is vertical. Two are slanted by +45 and by -45 degrees. (Sionna's ``cross`` begins with -45.)
    """
    traced = table.site.carrier_frequency
    zenith, azimuth = table.departure.astype(np.float64).T
    cycles = (carrier - traced) * table.delay.astype(np.float64)
    common = (traced / carrier) * np.exp(-2j * np.pi * cycles) * element_amplitude(radio.pattern, zenith, azimuth - yaw)
    gains = table.gain[:, None].astype(np.complex128)
    if radio.array.polarisations == 2:
        if table.horizontal_gain is None:
            raise NotPolarised(f"{table.site.name} was traced with vertical antennas only: trace it again")
        horizontal = table.horizontal_gain[:, None].astype(np.complex128)
        gains = np.concatenate([gains + horizontal, gains - horizontal], axis=1) / np.sqrt(2)
    scaled: NDArray[np.complex128] = gains * common[:, None]
    return scaled


def observe_waves(
    wavefronts: Literal["plane", "spherical"],
    direction: NDArray[np.float64],  # [paths, 3] unit vectors of departure
    delay: NDArray[np.float64],  # [paths] seconds
    elements: NDArray[np.float64],  # [elements, 3] metres
    offsets_hz: NDArray[np.float64],  # [subcarriers]
    carrier: float,
) -> NDArray[np.complex64]:
    """What paths of gain one look like at each element and subcarrier, [paths, elements, subcarriers]."""
    if wavefronts == "plane":
        steering = np.exp(2j * np.pi * (carrier / SPEED_OF_LIGHT) * direction @ elements.T).astype(np.complex64)
        over_band = np.exp(-2j * np.pi * delay[:, None] * offsets_hz).astype(np.complex64)
        return steering[:, :, None] * over_band[:, None]
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
    waves = np.empty(phase.shape, np.complex64)
    waves.real, waves.imag = np.cos(phase), np.sin(phase)
    return waves


def _fraction(cycles: NDArray[np.float64]) -> NDArray[np.float32]:
    """Cycles without the whole ones, which change no phase but cost single precision its digits."""
    fraction: NDArray[np.float32] = (cycles - np.rint(cycles)).astype(np.float32)
    return fraction


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
