"""Walks through a street: users who move on and are measured again and again, for tracks of several snapshots.

The rule is the same in every street and depends on geometry only:

1. A walk begins anywhere on the open street of the site's area, in any direction.
2. Its snapshots are 0.5 to 3 m apart, equally far in the whole walk: a person who is measured every half second, or a
   car in a jam.
3. Between snapshots the course turns by a normal angle, 10 degrees 1 sigma.
4. A walk that leaves the area or its open street is drawn again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.errors import TrainerError
from models.radio.siting import ATTEMPTS, USER_HEIGHT_M, Site, Streets

WALKS = "walks"  # in the names of path tables, where other tables have the state of the street
SNAPSHOTS = 10  # of a walk
WALKS_OF_A_CELL = 40
STEP_M = (0.5, 3.0)
TURN_RAD = np.deg2rad(10.0)
_AT_ONCE = 256


class NoRoomForWalks(TrainerError):
    """Too few walks stay on the open street of a site's area."""


def draw_walks(streets: Streets, site: Site, walks: int) -> NDArray[np.float64]:
    """float64 [walks, SNAPSHOTS, 3] in scene metres. A larger draw starts with the smaller one.

    Raises `NoRoomForWalks`.
    """
    rng = np.random.default_rng([site.seed, *site.place.encode(), 3])
    drawn: list[NDArray[np.float64]] = []
    for _ in range(ATTEMPTS // _AT_ONCE * walks):
        places = np.array(site.area_centre) + _draw_courses(rng, site.area_side)  # [n, SNAPSHOTS, 2]
        z, street = streets.ground(places.reshape(-1, 2))
        within = (np.abs(places - np.array(site.area_centre)) <= site.area_side / 2).all(axis=(1, 2))
        kept = within & street.reshape(len(places), -1).all(axis=1)
        heights = z.reshape(len(places), -1, 1) + USER_HEIGHT_M
        drawn.append(np.concatenate([places, heights], axis=2)[kept])
        if sum(map(len, drawn)) >= walks:
            return np.concatenate(drawn)[:walks]
    raise NoRoomForWalks(f"{site.name}: {sum(map(len, drawn))} of {walks} walks stay on its street")


def _draw_courses(rng: np.random.Generator, side: float) -> NDArray[np.float64]:
    """Walks over a square around the origin that may leave it: [n, SNAPSHOTS, 2]."""
    start = rng.uniform(-side / 2, side / 2, (_AT_ONCE, 1, 2))
    step = np.exp(rng.uniform(*np.log(STEP_M), (_AT_ONCE, 1)))
    turns = rng.normal(0.0, TURN_RAD, (_AT_ONCE, SNAPSHOTS - 1))
    course = rng.uniform(-np.pi, np.pi, (_AT_ONCE, 1)) + np.cumsum(turns, axis=1)
    steps = step[..., None] * np.stack([np.cos(course), np.sin(course)], axis=-1)
    return np.concatenate([start, start + np.cumsum(steps, axis=1)], axis=1)
