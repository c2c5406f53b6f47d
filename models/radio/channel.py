"""Channel synthesis: a path table observed by an antenna array on a grid of subcarriers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.radio.path_table import PathTable
from reference_db.cell import AntennaArray

USERS_AT_ONCE = 512


def element_positions(array: AntennaArray, yaw: float) -> NDArray[np.float64]:
    """Element positions relative to the array's centre, float64 [antennas, 3] in wavelengths.

    The array is upright in the y-z plane with broadside along x, then turned by ``yaw`` (radians, counter-clockwise).
    Antenna ``row * columns + column``: row 0 is at the bottom, and columns count along y, which is from right to left
    seen from behind the array. The phase therefore rises with the column for a path that departs counter-clockwise of
    broadside. (Sionna's ``PlanarArray`` counts column by column, with row 0 at the top, and columns the same way.)
    """
    row, column = np.divmod(np.arange(array.antennas), array.columns)
    along = (column - (array.columns - 1) / 2) * array.spacing
    up = (row - (array.rows - 1) / 2) * array.spacing
    return np.stack([-np.sin(yaw) * along, np.cos(yaw) * along, up], axis=-1)


def subcarrier_offsets(subcarriers: int, bandwidth: float) -> NDArray[np.float64]:
    """Subcarrier frequencies relative to the carrier, float64 [subcarriers] in hertz; DC is subcarrier S // 2."""
    return (np.arange(subcarriers) - subcarriers // 2) * (bandwidth / subcarriers)


def synthesise(
    table: PathTable, array: AntennaArray, yaw: float, subcarriers: int, bandwidth: float
) -> NDArray[np.complex64]:
    """CSI of every user of the table, complex64 [users, antennas, subcarriers]; zero for a user without paths.

    ``H[m, k] = Σ_p g_p · exp(j2π r_m·k̂_p) · exp(-j2π Δf_k τ_p)`` with element positions ``r_m`` in wavelengths and
    ``k̂_p`` the unit vector of departure. Gains are exact at the traced carrier; array, spacing and bandwidth are free.
    """
    elements = element_positions(array, yaw)
    offsets_hz = subcarrier_offsets(subcarriers, bandwidth)
    zenith, azimuth = table.departure.astype(np.float64).T
    direction = np.stack(
        [np.sin(zenith) * np.cos(azimuth), np.sin(zenith) * np.sin(azimuth), np.cos(zenith)], axis=-1
    )  # [paths, 3]
    steering = table.gain[:, None] * np.exp(2j * np.pi * direction @ elements.T)  # [paths, antennas]
    rotation = np.exp(-2j * np.pi * table.delay.astype(np.float64)[:, None] * offsets_hz)  # [paths, subcarriers]

    csi = np.zeros((len(table.users), array.antennas, subcarriers), np.complex64)
    for first in range(0, len(table.users), USERS_AT_ONCE):
        users = np.arange(first, min(first + USERS_AT_ONCE, len(table.users)))
        slot = np.arange(int(table.paths_per_user[users].max(initial=0)))
        row = table.offsets[users][:, None] + slot  # [users, slots]
        present = slot < table.paths_per_user[users][:, None]
        row = np.where(present, row, 0)
        if slot.size:
            csi[users] = np.einsum("upa,ups->uas", steering[row] * present[..., None], rotation[row], optimize=True)
    return csi
