import numpy as np
import pytest
from numpy.typing import NDArray

from models.radio.siting import USER_HEIGHT_M, Site, draw_site, draw_users
from models.radio.street_changes import (
    SHEET_DISTANCE_M,
    SHEET_THICKNESS_M,
    VEHICLE_MARGIN_M,
    VEHICLES,
    Box,
    NoRoomInStreet,
    StreetState,
    Traffic,
    UnknownStreetState,
    clad_facade,
    draw_clear_users,
    find_street,
    furnish_street,
    park_vehicles,
)

ROOF_M = 20.0


class Avenue:
    """A flat town of one east-west avenue, ``width`` metres wide; the houses of its north side have a gap each 40 m."""

    def __init__(self, width: float) -> None:
        self.width = width

    def bounds(self) -> NDArray[np.float64]:
        return np.array([[-500.0, -300.0], [500.0, 300.0]])

    def ground(self, xy: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        street = np.abs(xy[:, 1]) < self.width / 2
        return np.where(street, 0.0, ROOF_M), street

    def visible(self, origin: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.bool_]:
        return np.abs(points[:, 1]) < self.width / 2  # all of the avenue, and nothing else

    def walls(
        self, origins: NDArray[np.float64], directions: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        north = np.where(np.abs(directions[:, 1]) < 1e-9, 1e-9, directions[:, 1])
        distance = (np.sign(north) * self.width / 2 - origins[:, 1]) / north
        x = origins[:, 0] + distance * directions[:, 0]
        distance[(north > 0) & (x % 40 < 8)] = np.inf
        return distance, np.tile([0.0, 1.0, 0.0], (len(origins), 1))


@pytest.fixture
def site() -> Site:
    return draw_site(Avenue(40), "town", 4, 3.5e9)


def test_the_same_vehicles_stand_on_the_street_and_all_of_them_move(site: Site) -> None:
    town = Avenue(40)
    before, after = (
        park_vehicles(town, site, state.arrangement) for state in (StreetState.CARS, StreetState.CARS_MOVED)
    )
    assert before == park_vehicles(town, site)
    assert [box.name for box in before] == [box.name for box in after] == list(VEHICLES)
    for box, moved in zip(before, after, strict=True):
        assert box.size == moved.size
        assert np.hypot(*np.subtract(box.centre, moved.centre)[:2]) > 1
    for box in before + after:
        corners = np.array([[a, b] for a in (-1, 1) for b in (-1, 1)]) * np.array(box.size[:2]) / 2
        turned = corners @ np.array([[np.cos(box.yaw), np.sin(box.yaw)], [-np.sin(box.yaw), np.cos(box.yaw)]])
        assert (np.abs(turned[:, 1] + box.centre[1]) < town.width / 2).all()
        assert 0 < box.centre[2] - box.size[2] / 2 < 0.5
    middles = np.array([box.centre[:2] for box in before])
    for box in before:
        assert box.covers(middles).sum() == 1


def test_a_box_covers_what_is_beneath_it() -> None:
    box = Box("bus", (10.0, 5.0, 1.0), (12.0, 2.0, 3.0), np.pi / 2)  # its length points north
    assert box.covers(np.array([[10.0, 10.9], [10.9, 5.0], [10.0, 11.1], [11.1, 5.0]])).tolist() == [
        True,
        True,
        False,
        False,
    ]
    assert box.covers(np.array([[11.1, 5.0]]), margin=0.2).all()


def test_users_keep_clear_of_the_vehicles_of_both_arrangements(site: Site) -> None:
    town = Avenue(40)
    users = draw_clear_users(town, site, 3000, StreetState.CARS)
    vehicles = [box for arrangement in (0, 1) for box in park_vehicles(town, site, arrangement)]
    everywhere = draw_users(town, site, 3000)
    for box in vehicles:
        assert box.covers(everywhere[:, :2], VEHICLE_MARGIN_M).any()
        assert not box.covers(users[:, :2], VEHICLE_MARGIN_M).any()
    np.testing.assert_array_equal(draw_clear_users(town, site, 700, StreetState.FACADE), users[:700])


def test_the_vehicles_of_states_that_were_traced_before_stand_where_they_stood(site: Site) -> None:
    town = Avenue(40)
    for moved, state in ((False, StreetState.CARS), (True, StreetState.CARS_MOVED)):
        rng = np.random.default_rng([site.seed, *b"town", 3, moved])
        first = furnish_street(town, site, state)[0]
        drawn = [(rng.uniform(-30, 30, 2), rng.uniform(-np.pi, np.pi)) for _ in range(50)]
        assert any(np.array_equal(site.area_centre + xy, first.centre[:2]) and yaw == first.yaw for xy, yaw in drawn)


def test_every_traffic_state_has_an_arrangement_of_its_own(site: Site) -> None:
    town = Avenue(40)
    states = (*StreetState, *(Traffic(number) for number in range(1, 11)))
    parked = [furnish_street(town, site, state) for state in states if state is not StreetState.FACADE]
    assert parked[2:] == [furnish_street(town, site, Traffic(number)) for number in range(1, 11)]
    for boxes in parked:
        assert [(box.name, box.size) for box in boxes] == list(VEHICLES.items())
    assert len({box.centre for boxes in parked for box in boxes}) == len(VEHICLES) * len(parked)


def test_users_keep_clear_of_the_vehicles_of_their_own_traffic_only(site: Site) -> None:
    town = Avenue(40)
    everywhere = draw_users(town, site, 1500)
    standing = [draw_clear_users(town, site, 1000, Traffic(number)) for number in (1, 2)]
    for number, users in zip((1, 2), standing, strict=True):
        blocked = np.any(
            [box.covers(everywhere[:, :2], VEHICLE_MARGIN_M) for box in furnish_street(town, site, Traffic(number))],
            axis=0,
        )
        assert blocked.any()
        np.testing.assert_array_equal(users, everywhere[~blocked][:1000])
    common = set(map(tuple, standing[0].tolist())) & set(map(tuple, standing[1].tolist()))
    assert 900 < len(common) < 1000


def test_states_are_found_by_their_names() -> None:
    states = [*StreetState, Traffic(1), Traffic(30), Traffic(99)]
    assert [find_street(str(state)) for state in states] == states
    for name in ("traffic", "traffic-0", "traffic-03", "traffic-100", "traffic-3 ", "carts", ""):
        with pytest.raises(UnknownStreetState, match=r"facade, and traffic-1 to traffic-99$"):
            find_street(name)


def test_cladding_stands_before_one_facade_over_its_whole_height(site: Site) -> None:
    town = Avenue(40)
    sheet = clad_facade(town, site)
    length, thickness, height = sheet.size
    assert abs(np.sin(sheet.yaw)) < 1e-6
    assert abs(sheet.centre[1]) == pytest.approx(town.width / 2 - SHEET_DISTANCE_M - SHEET_THICKNESS_M / 2, abs=1e-6)
    assert (thickness, height, sheet.centre[2]) == pytest.approx((SHEET_THICKNESS_M, ROOF_M, ROOF_M / 2))
    assert length > 20
    if sheet.centre[1] > 0:  # a gap between two houses is no part of a facade
        assert length <= 32


def test_every_state_has_its_own_furniture(site: Site) -> None:
    town = Avenue(40)
    cars, moved, facade = (furnish_street(town, site, state) for state in StreetState)
    assert facade == [*cars, clad_facade(town, site)]
    assert len(moved) == len(cars)
    assert moved != cars


def test_a_lane_has_no_room_for_a_bus(site: Site) -> None:
    with pytest.raises(NoRoomInStreet, match="no room for the car-0"):
        park_vehicles(Avenue(2), site)


def test_a_desert_has_no_facade(site: Site) -> None:
    class Desert(Avenue):
        def walls(
            self, origins: NDArray[np.float64], directions: NDArray[np.float64]
        ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            return np.full(len(origins), np.inf), np.zeros((len(origins), 3))

    with pytest.raises(NoRoomInStreet, match="no wall"):
        clad_facade(Desert(40), site)
    assert draw_users(Desert(40), site, 1)[0, 2] == USER_HEIGHT_M
