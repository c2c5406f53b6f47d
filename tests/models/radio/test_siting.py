import numpy as np
import pytest

from models.radio.siting import (
    AREA_M,
    BS_DISTANCE_M,
    BS_HEIGHT_M,
    MINIMUM_VISIBLE_SHARE_OF_FURTHER,
    USER_HEIGHT_M,
    VISIBLE_SHARE_NLOS,
    YAW_RANGE,
    NoSiteFound,
    Site,
    draw_further_station,
    draw_site,
    draw_users,
)
from tests.models.radio.towns import Avenue


def test_the_same_seed_draws_the_same_site_and_another_seed_another() -> None:
    town = Avenue(60)
    assert draw_site(town, "town", 4, 3.5e9) == draw_site(town, "town", 4, 3.5e9)
    assert draw_site(town, "town", 4, 3.5e9) != draw_site(town, "town", 5, 3.5e9)
    assert draw_site(town, "town", 4, 3.5e9).bs != draw_site(town, "village", 4, 3.5e9).bs


@pytest.mark.parametrize("seed", range(12))
def test_a_site_keeps_the_written_rule(seed: int) -> None:
    town = Avenue(60)
    site = draw_site(town, "town", seed, 3.5e9)
    foot, centre = np.array(site.bs[:2]), np.array(site.area_centre)
    height, street = town.ground(foot[None])
    assert street[0]
    assert BS_HEIGHT_M[0] <= site.bs[2] - height[0] <= BS_HEIGHT_M[1]
    assert site.bs[2] - height[0] == pytest.approx(site.bs_height_above_ground)
    assert BS_DISTANCE_M[0] <= np.linalg.norm(centre - foot) <= BS_DISTANCE_M[1]
    bearing = np.arctan2(*(centre - foot)[::-1])
    assert abs((site.yaw - bearing + np.pi) % (2 * np.pi) - np.pi) <= YAW_RANGE + 1e-9


def test_users_stand_on_open_street_inside_the_area() -> None:
    town = Avenue(40)
    site = draw_site(town, "town", 1, 3.5e9)
    users = draw_users(town, site, 700)
    ground, street = town.ground(users[:, :2])
    assert len(users) == 700
    assert street.all()
    np.testing.assert_allclose(users[:, 2], ground + USER_HEIGHT_M)
    assert (np.abs(users[:, :2] - site.area_centre) <= AREA_M / 2).all()


def test_a_larger_draw_begins_with_the_smaller_one() -> None:
    town = Avenue(40)
    site = draw_site(town, "town", 1, 3.5e9)
    np.testing.assert_array_equal(draw_users(town, site, 900)[:300], draw_users(town, site, 300))


@pytest.mark.parametrize("town", [Avenue(2), Avenue(60, fog=5)], ids=["no street", "no sight"])
def test_a_town_without_a_site_is_an_error(town: Avenue) -> None:
    with pytest.raises(NoSiteFound):
        draw_site(town, "town", 0, 3.5e9)


def test_a_site_survives_json() -> None:
    site = draw_site(Avenue(60), "town", 2, 3.5e9)
    assert Site.from_json(site.to_json()) == site


@pytest.mark.parametrize("seed", range(12))
def test_the_second_family_of_sites_sees_a_tenth_to_four_tenths_of_the_street(seed: int) -> None:
    town = Avenue(60, fog=70)
    site = draw_site(town, "town-nlos", seed, 3.5e9)
    assert (site.city, site.place, site.name) == ("town", "town-nlos", f"town-nlos-{seed:04d}")
    seen = town.visible(np.array(site.bs), draw_users(town, site, 2000)).mean()
    low, high = VISIBLE_SHARE_NLOS
    assert low - 0.06 < seen < high + 0.06  # as drawn from 400 places
    distance = np.linalg.norm(np.array(site.area_centre) - site.bs[:2])
    assert BS_DISTANCE_M[0] <= distance <= BS_DISTANCE_M[1]


def test_both_families_of_sites_are_repeatable_and_differ() -> None:
    town = Avenue(60, fog=70)
    for place in ("town", "town-nlos"):
        site = draw_site(town, place, 3, 3.5e9)
        assert site == draw_site(town, place, 3, 3.5e9)
        np.testing.assert_array_equal(draw_users(town, site, 300), draw_users(town, site, 900)[:300])
    sites = [draw_site(town, place, 3, 3.5e9) for place in ("town", "town-nlos")]
    assert sites[0].bs != sites[1].bs
    assert not np.array_equal(*(draw_users(town, site, 100) for site in sites))


def test_only_the_second_family_writes_that_it_is_one() -> None:
    town = Avenue(60, fog=70)
    first, second = (draw_site(town, place, 3, 3.5e9) for place in ("town", "town-nlos"))
    assert "nlos" not in first.to_json()  # as before there was a second family
    assert Site.from_json(second.to_json()) == second
    assert second.to_json()["nlos"] is True


def test_sites_are_drawn_as_before_there_was_a_second_family() -> None:
    site = draw_site(Avenue(60), "town", 2, 3.5e9)
    assert site.bs == pytest.approx((188.652142129, 14.374111995, 27.143828769), abs=1e-8)
    assert (site.yaw, *site.area_centre) == pytest.approx((-2.265853433, 162.779099321, -17.037664509), abs=1e-8)
    users = [[176.584220, 0.0536632790, 10.3292110], [147.045974, -8.88375546, 8.85229872]]
    np.testing.assert_allclose(draw_users(Avenue(60), site, 2), users, atol=1e-6)


def test_the_first_station_is_written_as_before_there_were_further_ones() -> None:
    first = draw_site(Avenue(60), "town", 2, 3.5e9)
    assert "station" not in first.to_json()
    second = draw_further_station(Avenue(60), first, 1)
    assert second.to_json()["station"] == 1
    assert Site.from_json(second.to_json()) == second


@pytest.mark.parametrize("seed", range(12))
def test_a_further_station_keeps_the_written_rule(seed: int) -> None:
    town = Avenue(60, fog=90)
    first = draw_site(town, "town", seed, 3.5e9)
    further = draw_further_station(town, first, 1)
    foot, centre = np.array(further.bs[:2]), np.array(further.area_centre)
    height, street = town.ground(foot[None])
    assert street[0]
    assert BS_HEIGHT_M[0] <= further.bs_height_above_ground <= BS_HEIGHT_M[1]
    assert further.bs[2] - height[0] == pytest.approx(further.bs_height_above_ground)
    assert BS_DISTANCE_M[0] <= np.linalg.norm(centre - foot) <= BS_DISTANCE_M[1]
    bearing = np.arctan2(*(centre - foot)[::-1])
    assert abs((further.yaw - bearing + np.pi) % (2 * np.pi) - np.pi) <= YAW_RANGE + 1e-9
    seen = town.visible(np.array(further.bs), draw_users(town, further, 1000)).mean()
    assert seen > MINIMUM_VISIBLE_SHARE_OF_FURTHER - 0.05  # as drawn from fewer places


def test_stations_of_a_street_have_its_users_and_places_of_their_own() -> None:
    town = Avenue(60)
    first = draw_site(town, "town", 4, 3.5e9)
    stations = [first, *(draw_further_station(town, first, number) for number in (1, 2, 3))]
    assert [one.name for one in stations] == ["town-0004", "town-0004-1", "town-0004-2", "town-0004-3"]
    assert len({one.bs for one in stations}) == len({one.yaw for one in stations}) == len(stations)
    for one in stations[1:]:
        assert (one.area_centre, one.carrier_frequency) == (first.area_centre, first.carrier_frequency)
        np.testing.assert_array_equal(draw_users(town, one, 100), draw_users(town, first, 100))
    assert draw_further_station(town, first, 2) == stations[2]


def test_a_street_that_no_further_station_sees_is_an_error() -> None:
    first = draw_site(Avenue(60), "town", 0, 3.5e9)
    with pytest.raises(NoSiteFound, match="town-0000, station 1"):
        draw_further_station(Avenue(60, fog=5), first, 1)
