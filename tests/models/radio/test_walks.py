import numpy as np
import pytest

from models.radio.siting import AREA_M, USER_HEIGHT_M, draw_site
from models.radio.walks import SNAPSHOTS, STEP_M, NoRoomForWalks, draw_walks
from tests.models.radio.towns import Avenue

TOWN = Avenue(40)
SITE = draw_site(TOWN, "town", 1, 3.5e9)


def test_walks_stay_on_the_open_street_of_the_area() -> None:
    walks = draw_walks(TOWN, SITE, 50)
    assert walks.shape == (50, SNAPSHOTS, 3)
    height, street = TOWN.ground(walks[..., :2].reshape(-1, 2))
    assert street.all()
    np.testing.assert_allclose(walks[..., 2].ravel(), height + USER_HEIGHT_M)
    assert np.abs(walks[..., :2] - np.array(SITE.area_centre)).max() <= AREA_M / 2


def test_the_snapshots_of_a_walk_are_equally_far_apart_and_its_course_turns_slowly() -> None:
    walks = draw_walks(TOWN, SITE, 50)
    steps = np.diff(walks[..., :2], axis=1)
    lengths = np.linalg.norm(steps, axis=-1)
    assert np.ptp(lengths, axis=1).max() < 1e-9
    assert lengths.min() >= STEP_M[0] - 1e-9
    assert lengths.max() <= STEP_M[1] + 1e-9
    assert lengths[:, 0].std() > 0.3  # walks differ in pace
    course = np.unwrap(np.arctan2(steps[..., 1], steps[..., 0]), axis=1)
    assert np.rad2deg(np.diff(course, axis=1).std()) == pytest.approx(10, abs=1)


def test_a_larger_draw_starts_with_the_smaller_one() -> None:
    np.testing.assert_array_equal(draw_walks(TOWN, SITE, 60)[:7], draw_walks(TOWN, SITE, 7))


def test_a_street_without_room_is_an_error() -> None:
    alley = Avenue(0.01)
    with pytest.raises(NoRoomForWalks, match="town-0001: 0 of 3 walks"):
        draw_walks(alley, SITE, 3)
