"""First paths: the detectable path that reaches each user earliest, which time and angle of arrival refer to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.radio.path_table import PathTable
from reference_db.path_features import SPEED_OF_LIGHT

# By convention, a path more than 20 dB below its link's strongest path does not count as a first path.
DETECTABLE_DB = 20.0


@dataclass(frozen=True)
class FirstPaths:
    """The first path of every user of a table. Range and angles are NaN for a user that no path reaches."""

    range: NDArray[np.float64]  # [users] metres: the length of the path, which is c times the time of arrival
    zenith: NDArray[np.float64]  # [users] radians: of its departure at the BS
    azimuth: NDArray[np.float64]  # [users] radians counter-clockwise from east
    line_of_sight: NDArray[np.bool_]  # [users] the path has no interaction

    def off_broadside(self, yaw: float) -> NDArray[np.float64]:
        """Azimuth from the broadside of an array with this yaw, float64 [users] in [-pi/2, pi/2], radians.

        A linear array cannot tell front from back: a path that departs behind the array counts as its mirror image in
        front of the array.
        """
        return fold_into_front(self.azimuth - yaw)

    def cone(self, yaw: float) -> NDArray[np.float64]:
        """The component of the departure's unit vector along the columns of an array with this yaw, float64 [users].

        Its sign is positive for paths that depart counter-clockwise of broadside. It is all that a linear array sees
        of a direction.
        """
        return np.sin(self.zenith) * np.sin(self.azimuth - yaw)


def first_paths(table: PathTable) -> FirstPaths:
    """Finds each user's detectable path with the smallest delay. Of equal delays, the first in the table counts."""
    user = np.repeat(np.arange(len(table.users)), table.paths_per_user)
    power = np.abs(table.gain) ** 2
    strongest = np.zeros(len(table.users), power.dtype)
    np.maximum.at(strongest, user, power)
    detectable = power >= strongest[user] * 10 ** (-DETECTABLE_DB / 10)
    by_delay = np.lexsort((table.delay, ~detectable, user))  # the paths of each user stay in the user's rows
    reached = table.reached
    first = by_delay[table.offsets[:-1][reached]]

    def spread(values: NDArray[np.float32]) -> NDArray[np.float64]:
        column = np.full(len(table.users), np.nan)
        column[reached] = values[first]
        return column

    direct = np.zeros(len(table.users), bool)
    direct[reached] = ~table.interactions[first].any(axis=1)
    return FirstPaths(
        range=SPEED_OF_LIGHT * spread(table.delay),
        zenith=spread(table.departure[:, 0]),
        azimuth=spread(table.departure[:, 1]),
        line_of_sight=direct,
    )


def fold_into_front(off_broadside: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mirrors azimuths from broadside, radians of any shape, into the front half plane [-pi/2, pi/2]."""
    wrapped = (off_broadside + np.pi) % (2 * np.pi) - np.pi
    behind = np.abs(wrapped) > np.pi / 2
    return np.where(behind, np.copysign(np.pi, wrapped) - wrapped, wrapped)
