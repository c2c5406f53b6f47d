"""What changes in a street after its survey: vehicles that stand elsewhere, and the cladding of a facade.

The rule is the same in every street and depends on geometry only:

1. In the state ``cars``, six cars and a bus, boxes of metal, are parked on the open street of the site's area, at
   uniform places and headings. No two of them overlap.
2. In the state ``cars-moved``, the same vehicles are drawn again from another seed: all of them have moved.
3. In the state ``facade``, the vehicles stand as in ``cars``, and the facade in which the street sees most of its walls
   that the BS sees, too, is clad in metal: a thin sheet before the wall, over its whole width and height.
4. In these three states, users keep clear of the vehicles of both arrangements, so the same users can be traced in
   each.
5. In the state ``traffic-N``, the same vehicles are drawn by step 1 from the seed of N: a street has 99 such states.
   Users keep clear of the vehicles of this state only. They are drawn in the same order in every state, so two states
   share most of them: those who stand at equal places.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import TrainerError
from models.radio.siting import ATTEMPTS, USER_HEIGHT_M, Site, Streets, draw_users

CAR_M, BUS_M = (4.5, 1.8, 1.4), (12.0, 2.5, 2.9)  # length, width, height of the body
VEHICLES = {**{f"car-{number}": CAR_M for number in range(6)}, "bus": BUS_M}
GROUND_CLEARANCE_M = 0.2
VEHICLE_MARGIN_M = 0.3
SHEET_THICKNESS_M, SHEET_DISTANCE_M = 0.02, 0.1
PROBES, RAYS = 200, 64  # places in the street from which walls are looked for, and directions of each
FARTHEST_WALL_M = 150.0
WIDEST_GAP_M = 3.0  # between points of one facade
SAME_NORMAL_RAD, SAME_PLANE_M = np.deg2rad(3.0), 0.4
MOST_TRAFFIC = 99
FIRST_ARRANGEMENT, MOVED_ARRANGEMENT = 0, 1  # of the vehicles; that of ``traffic-N`` is N + 1


class StreetState(StrEnum):
    """What stands in a street that is not bare."""

    CARS = "cars"
    CARS_MOVED = "cars-moved"
    FACADE = "facade"

    @property
    def arrangement(self) -> int:
        return MOVED_ARRANGEMENT if self is StreetState.CARS_MOVED else FIRST_ARRANGEMENT

    @property
    def avoided(self) -> tuple[int, ...]:
        """The arrangements of vehicles that users keep clear of."""
        return FIRST_ARRANGEMENT, MOVED_ARRANGEMENT


@dataclass(frozen=True)
class Traffic:
    """The state ``traffic-N``: the vehicles of one of many moments. ``number``: from 1 to `MOST_TRAFFIC`."""

    number: int

    def __str__(self) -> str:
        return f"traffic-{self.number}"

    @property
    def arrangement(self) -> int:
        return MOVED_ARRANGEMENT + self.number

    @property
    def avoided(self) -> tuple[int, ...]:
        return (self.arrangement,)


Street = StreetState | Traffic


class UnknownStreetState(TrainerError):
    """A street has no state of this name."""


class NoRoomInStreet(TrainerError):
    """A street has no room for a vehicle, or no facade that its base station sees."""


class WalledStreets(Streets, Protocol):
    """The geometry of a city that the rule needs."""

    def walls(
        self, origins: NDArray[np.float64], directions: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Distance [n] to the first surface from ``origins`` [n, 3] along ``directions`` [n, 3], infinite where there
        is none, and the surface's normal [n, 3]."""
        ...


@dataclass(frozen=True)
class Box:
    """An upright box of metal. ``size``: length, width and height; ``yaw``: of its length, counter-clockwise from x."""

    name: str
    centre: tuple[float, float, float]
    size: tuple[float, float, float]
    yaw: float

    def covers(self, xy: NDArray[np.float64], margin: float = 0.0) -> NDArray[np.bool_]:
        """bool [n]: the place is in the box, or at most ``margin`` metres beside it. ``xy`` [n, 2]."""
        inside: NDArray[np.bool_] = (
            np.abs((xy - self.centre[:2]) @ _axes(self.yaw)) <= np.array(self.size[:2]) / 2 + margin
        ).all(axis=1)
        return inside


def find_street(name: str) -> Street:
    """The state of this name, such as ``cars`` or ``traffic-3``. Raises `UnknownStreetState`."""
    if name in list(StreetState):
        return StreetState(name)
    if (match := re.fullmatch(r"traffic-([1-9]\d?)", name, re.ASCII)) is not None:
        return Traffic(int(match[1]))
    known = ", ".join(StreetState)
    raise UnknownStreetState(f"no street state {name!r}; there are {known}, and traffic-1 to {Traffic(MOST_TRAFFIC)}")


def furnish_street(streets: WalledStreets, site: Site, street: Street) -> list[Box]:
    """The boxes of metal that stand in the bare street in this state. Raises `NoRoomInStreet`."""
    boxes = park_vehicles(streets, site, street.arrangement)
    return [*boxes, clad_facade(streets, site)] if street is StreetState.FACADE else boxes


def park_vehicles(streets: Streets, site: Site, arrangement: int = FIRST_ARRANGEMENT) -> list[Box]:
    """Steps 1, 2 and 5 of the rule. Raises `NoRoomInStreet`."""
    rng = np.random.default_rng([site.seed, *site.place.encode(), 3, arrangement])
    parked: list[Box] = []
    for name, size in VEHICLES.items():
        for _ in range(ATTEMPTS):
            xy = np.array(site.area_centre) + rng.uniform(-site.area_side / 2, site.area_side / 2, 2)
            yaw = float(rng.uniform(-np.pi, np.pi))
            z, street = streets.ground(xy + _footprint(size, yaw))
            reach = np.hypot(*size[:2]) / 2
            apart = all(np.hypot(*(xy - other.centre[:2])) > reach + np.hypot(*other.size[:2]) / 2 for other in parked)
            if street.all() and apart:
                height = float(z.max()) + GROUND_CLEARANCE_M + size[2] / 2
                parked.append(Box(name, (float(xy[0]), float(xy[1]), height), size, yaw))
                break
        else:
            raise NoRoomInStreet(f"{site.name}: no room for the {name} in {ATTEMPTS} draws")
    return parked


def clad_facade(streets: WalledStreets, site: Site) -> Box:
    """Step 3 of the rule. Raises `NoRoomInStreet`."""
    users = draw_users(streets, site, PROBES)
    azimuth = np.tile(np.linspace(0, 2 * np.pi, RAYS, endpoint=False), len(users))
    directions = np.stack([np.cos(azimuth), np.sin(azimuth), np.zeros_like(azimuth)], axis=1)
    origins = np.repeat(users, RAYS, axis=0)
    distance, normal = streets.walls(origins, directions)
    wall = (distance < FARTHEST_WALL_M) & (np.abs(normal[:, 2]) < 0.05)
    if not wall.any():
        raise NoRoomInStreet(f"{site.name}: the street sees no wall within {FARTHEST_WALL_M:g} m")
    points = origins[wall] + distance[wall, None] * directions[wall]
    towards_street = -np.sign((normal[wall] * directions[wall]).sum(axis=1))
    normal = towards_street[:, None] * normal[wall]
    seen = streets.visible(np.array(site.bs), points + SHEET_DISTANCE_M * normal)
    if not seen.any():
        raise NoRoomInStreet(f"{site.name}: the base station sees no wall that the street sees")
    on_facade = _largest_plane(points[seen], normal[seen])
    points, facing = points[seen][on_facade], np.median(normal[seen][on_facade, :2], axis=0)
    yaw = float(np.arctan2(-facing[0], facing[1]))  # the sheet's length is along the wall
    along, out = _axes(yaw).T
    reach = points[:, :2] @ along
    first, last = _longest_run(np.sort(reach))
    middle = (first + last) / 2 * along + (np.median(points[:, :2] @ out)) * out
    behind = middle + np.linspace(-0.4, 0.4, 9)[:, None] * (last - first) * along - 0.5 * out
    roof, foot = float(np.median(streets.ground(behind)[0])), float(users[:, 2].min() - USER_HEIGHT_M)
    centre = middle + (SHEET_DISTANCE_M + SHEET_THICKNESS_M / 2) * out
    size = (float(last - first), SHEET_THICKNESS_M, roof - foot)
    return Box("sheet", (float(centre[0]), float(centre[1]), (roof + foot) / 2), size, yaw)


def draw_clear_users(streets: Streets, site: Site, users: int, street: Street) -> NDArray[np.float64]:
    """Steps 4 and 5 of the rule: float64 [users, 3] in scene metres. A larger draw starts with the smaller one."""
    vehicles = [box for arrangement in street.avoided for box in park_vehicles(streets, site, arrangement)]
    drawn = users
    while True:
        drawn += max(50, drawn // 5)
        standing = draw_users(streets, site, drawn)
        blocked = np.any([box.covers(standing[:, :2], VEHICLE_MARGIN_M) for box in vehicles], axis=0)
        if (clear := standing[~blocked]).shape[0] >= users:
            return clear[:users]


def _axes(yaw: float) -> NDArray[np.float64]:
    """The directions of a box's length and width, as columns."""
    return np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])


def _footprint(size: tuple[float, float, float], yaw: float) -> NDArray[np.float64]:
    """Places under a vehicle and along its margin, relative to its centre: float64 [n, 2]."""
    half = np.array(size[:2]) / 2 + VEHICLE_MARGIN_M
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 3)), axis=-1).reshape(-1, 2)
    return (grid * half) @ _axes(yaw).T


def _largest_plane(points: NDArray[np.float64], normal: NDArray[np.float64]) -> NDArray[np.bool_]:
    """bool [n]: the points of the upright plane that holds most of ``points`` [n, 3] with their ``normal`` [n, 3]."""
    facing = np.arctan2(normal[:, 1], normal[:, 0])
    best = np.zeros(len(points), bool)
    for index in np.random.default_rng(0).permutation(len(points))[:500]:
        turned = np.abs((facing - facing[index] + np.pi) % (2 * np.pi) - np.pi) < SAME_NORMAL_RAD
        same = turned & (np.abs((points - points[index]) @ normal[index]) < SAME_PLANE_M)
        if same.sum() > best.sum():
            best = same
    return best


def _longest_run(places: NDArray[np.float64]) -> tuple[float, float]:
    """The ends of the longest stretch of sorted ``places`` [n] without a wide gap."""
    runs = np.split(places, np.flatnonzero(np.diff(places) > WIDEST_GAP_M) + 1)
    longest = max(runs, key=lambda run: float(run[-1] - run[0]))
    return float(longest[0]), float(longest[-1])
