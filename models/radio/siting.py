"""Sites of cells: base station, yaw, street area and users, all drawn from a seed.

The rule is the same in every city and was never adjusted to a result:

1. The BS is on an open street, uniform over the city without a 120 m margin. Its antenna is 8-25 m above the ground.
2. The street area is a 60 m square. Its centre is 40-100 m from the BS in a uniform direction.
3. The pair is drawn again until 40 % of the square is open street and the BS sees half of that street. Operators place
   base stations in sight of the street that they serve. Both shares are geometry and do not depend on any channel.
4. The array's broadside points at the area's centre, turned by up to ±45°.
5. Users stand uniformly on the open street of the square, 1.5 m above the ground. No user is dropped later: a user that
   no path reaches is recorded as such.
6. A second family of sites, ``<city>-nlos``, is drawn by the same rule, except that in step 3 the BS sees a tenth to
   four tenths of the street. At least half of the users are then out of sight of the BS.
7. A street may have further stations. Each is drawn by steps 1, 2 and 4 around the area of the first, but needs to see
   only a tenth of the street: neighbouring base stations are not sited for it. All stations of a street have the same
   users.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import TrainerError

MARGIN_M = 120.0
AREA_M = 60.0
BS_HEIGHT_M = (8.0, 25.0)
BS_DISTANCE_M = (40.0, 100.0)
USER_HEIGHT_M = 1.5
MINIMUM_STREET_SHARE = 0.4
VISIBLE_SHARE = (0.5, 1.0)
VISIBLE_SHARE_NLOS = (0.1, 0.4)
MINIMUM_VISIBLE_SHARE_OF_FURTHER = 0.1
NLOS_SUFFIX = "-nlos"
YAW_RANGE = np.pi / 4
PROBES = 400
ATTEMPTS = 10_000


class NoSiteFound(TrainerError):
    """The rule found no site for a cell within its attempts."""


class Streets(Protocol):
    """The geometry of a city that the rule needs. Positions in scene metres."""

    def bounds(self) -> NDArray[np.float64]:
        """float64 [2, 2]: the lowest and the highest x, y."""
        ...

    def ground(self, xy: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Height [n] of the highest surface at each ``xy`` [n, 2], and whether it is open ground [n]."""
        ...

    def visible(self, origin: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """bool [n]: the line from ``origin`` [3] to each of ``points`` [n, 3] is free."""
        ...


@dataclass(frozen=True)
class Site:
    """One cell's base station and street area, in metres and radians on the scene's axes (x east, y north).

    ``station`` counts the base stations of one street; the first is 0. ``street`` names what stands in the street
    beside the scene's own buildings (`street_changes`); a bare street has no name.
    """

    city: str
    seed: int
    bs: tuple[float, float, float]
    bs_height_above_ground: float
    yaw: float
    area_centre: tuple[float, float]
    area_side: float
    carrier_frequency: float
    station: int = 0
    nlos: bool = False
    street: str = ""

    @property
    def place(self) -> str:
        """The city and the family of sites, as cell ranges name them."""
        return self.city + NLOS_SUFFIX * self.nlos

    @property
    def name(self) -> str:
        return site_name(self.place, self.seed, self.station)

    def to_json(self) -> dict[str, Any]:
        """The fields. Defaults stay out: older path tables keep their bytes."""
        fields = asdict(self)
        return {name: value for name, value in fields.items() if name not in ("station", "nlos", "street") or value}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Site:
        return cls(**fields | {"bs": tuple(fields["bs"]), "area_centre": tuple(fields["area_centre"])})


def site_name(place: str, seed: int, station: int) -> str:
    return f"{place}-{seed:04d}" + (f"-{station}" if station else "")


def draw_site(streets: Streets, place: str, seed: int, carrier_frequency: float) -> Site:
    """Steps 1-4 of the rule, or step 6 for a place such as ``munich-nlos``. Raises `NoSiteFound`."""
    rng = np.random.default_rng([seed, *place.encode()])
    nlos = place.endswith(NLOS_SUFFIX)
    least, most = VISIBLE_SHARE_NLOS if nlos else VISIBLE_SHARE
    low, high = streets.bounds()
    for _ in range(ATTEMPTS):
        foot = rng.uniform(low + MARGIN_M, high - MARGIN_M)
        height = rng.uniform(*BS_HEIGHT_M)
        distance = rng.uniform(*BS_DISTANCE_M)
        bearing = rng.uniform(-np.pi, np.pi)
        yaw = bearing + rng.uniform(-YAW_RANGE, YAW_RANGE)
        centre = foot + distance * np.array([np.cos(bearing), np.sin(bearing)])
        probes = centre + rng.uniform(-AREA_M / 2, AREA_M / 2, (PROBES, 2))

        foot_z, foot_open = streets.ground(foot[None])
        if not foot_open[0]:
            continue
        probes_z, street = streets.ground(probes)
        if street.mean() < MINIMUM_STREET_SHARE:
            continue
        bs = np.array([*foot, foot_z[0] + height])
        standing = np.column_stack([probes, probes_z + USER_HEIGHT_M])[street]
        if not least <= streets.visible(bs, standing).mean() <= most:
            continue
        return Site(
            city=place.removesuffix(NLOS_SUFFIX),
            seed=seed,
            bs=(float(bs[0]), float(bs[1]), float(bs[2])),
            bs_height_above_ground=float(height),
            yaw=float((yaw + np.pi) % (2 * np.pi) - np.pi),
            area_centre=(float(centre[0]), float(centre[1])),
            area_side=AREA_M,
            carrier_frequency=carrier_frequency,
            nlos=nlos,
        )
    raise NoSiteFound(f"{place}, seed {seed}: no site in {ATTEMPTS} draws")


def draw_further_station(streets: Streets, first: Site, station: int) -> Site:
    """Step 7 of the rule: another base station of the first one's street. Raises `NoSiteFound`."""
    rng = np.random.default_rng([first.seed, *first.place.encode(), 2, station])
    low, high = streets.bounds()
    centre = np.array(first.area_centre)
    standing = draw_users(streets, first, PROBES)
    for _ in range(ATTEMPTS):
        height = rng.uniform(*BS_HEIGHT_M)
        distance = rng.uniform(*BS_DISTANCE_M)
        bearing = rng.uniform(-np.pi, np.pi)
        yaw = bearing + rng.uniform(-YAW_RANGE, YAW_RANGE)
        foot = centre - distance * np.array([np.cos(bearing), np.sin(bearing)])
        foot_z, foot_open = streets.ground(foot[None])
        if not foot_open[0] or (foot < low).any() or (foot > high).any():
            continue
        bs = np.array([*foot, foot_z[0] + height])
        if streets.visible(bs, standing).mean() < MINIMUM_VISIBLE_SHARE_OF_FURTHER:
            continue
        return replace(
            first,
            bs=(float(bs[0]), float(bs[1]), float(bs[2])),
            bs_height_above_ground=float(height),
            yaw=float((yaw + np.pi) % (2 * np.pi) - np.pi),
            station=station,
        )
    raise NoSiteFound(f"{first.name}, station {station}: no site in {ATTEMPTS} draws")


def draw_users(streets: Streets, site: Site, users: int) -> NDArray[np.float64]:
    """Step 5 of the rule: float64 [users, 3] in scene metres. A larger draw starts with the smaller one."""
    rng = np.random.default_rng([site.seed, *site.place.encode(), 1])
    standing: list[NDArray[np.float64]] = []
    while sum(map(len, standing)) < users:
        xy = np.array(site.area_centre) + rng.uniform(-site.area_side / 2, site.area_side / 2, (1024, 2))
        z, street = streets.ground(xy)
        standing.append(np.column_stack([xy, z + USER_HEIGHT_M])[street])
    return np.concatenate(standing)[:users]
