from dataclasses import replace

import numpy as np
import pytest

from models.radio.channel import synthesise
from models.radio.first_path import first_paths, fold_into_front
from models.radio.front_end import Radio
from models.radio.path_table import PathTable
from reference_db.cell import AntennaArray
from reference_db.path_features import SPEED_OF_LIGHT


def drop_users(table: PathTable, dropped: list[int]) -> PathTable:
    """The same table, in which no path reaches some users."""
    counts = table.paths_per_user.copy()
    user = np.repeat(np.arange(len(counts)), counts)
    kept = ~np.isin(user, dropped)
    counts[dropped] = 0
    per_path = {name: getattr(table, name)[kept] for name in ("gain", "delay", "departure", "arrival", "interactions")}
    return replace(table, offsets=np.concatenate([[0], np.cumsum(counts)]), **per_path)


def test_the_first_path_has_the_smallest_delay_of_its_user(table: PathTable) -> None:
    first = first_paths(table)
    assert (table.paths_per_user > 1).any()
    for user in np.flatnonzero(table.reached):
        rows = slice(table.offsets[user], table.offsets[user + 1])
        earliest = table.delay[rows].argmin()
        assert first.range[user] == pytest.approx(SPEED_OF_LIGHT * float(table.delay[rows][earliest]))
        np.testing.assert_array_equal(
            [first.zenith[user], first.azimuth[user]], table.departure[rows][earliest].astype(np.float64)
        )


def test_the_order_of_a_users_paths_does_not_matter(table: PathTable) -> None:
    user = np.repeat(np.arange(len(table.users)), table.paths_per_user)
    order = np.lexsort((-np.arange(len(user)), user))
    names = ("gain", "delay", "departure", "arrival", "interactions")
    reversed_ = replace(table, **{name: getattr(table, name)[order] for name in names})
    np.testing.assert_array_equal(first_paths(reversed_).range, first_paths(table).range)
    np.testing.assert_array_equal(first_paths(reversed_).azimuth, first_paths(table).azimuth)


@pytest.mark.parametrize(("below_db", "counts"), [(19.5, True), (20.5, False)])
def test_a_path_more_than_20_db_below_the_strongest_is_not_the_first(
    table: PathTable, below_db: float, counts: bool
) -> None:
    user = int(np.flatnonzero(table.line_of_sight & (table.paths_per_user > 2))[0])
    rows = np.arange(table.offsets[user], table.offsets[user + 1])
    by_delay = rows[table.delay[rows].argsort()]
    gain = table.gain.copy()
    gain[by_delay[1:]] = 1e-6
    gain[by_delay[2]] = 1e-3
    gain[by_delay[0]] = 1e-3 * 10 ** (-below_db / 20)
    first = first_paths(replace(table, gain=gain))
    expected = by_delay[0] if counts else by_delay[2]
    assert first.range[user] == pytest.approx(SPEED_OF_LIGHT * float(table.delay[expected]))
    assert first.line_of_sight[user] == counts


def test_in_line_of_sight_the_first_path_leads_straight_to_the_user(table: PathTable) -> None:
    first = first_paths(table)
    np.testing.assert_array_equal(first.line_of_sight, table.line_of_sight)
    seen, hidden = table.users[first.line_of_sight], table.users[~first.line_of_sight & table.reached]
    assert len(seen)
    assert len(hidden)
    east, north, up = seen.astype(np.float64).T
    distance = np.sqrt(east**2 + north**2 + up**2)
    np.testing.assert_allclose(first.range[first.line_of_sight], distance, atol=0.01)
    np.testing.assert_allclose(first.azimuth[first.line_of_sight], np.arctan2(north, east), atol=1e-4)
    np.testing.assert_allclose(np.cos(first.zenith[first.line_of_sight]), up / distance, atol=1e-4)
    longer = first.range[~first.line_of_sight & table.reached] - np.linalg.norm(hidden, axis=1)
    assert (longer > -0.01).all()


def test_users_without_paths_have_no_first_path_and_disturb_nobody(table: PathTable) -> None:
    whole, dropped = first_paths(table), [0, 5, 6, len(table.users) - 1]
    first = first_paths(drop_users(table, dropped))
    for name in ("range", "zenith", "azimuth"):
        assert np.isnan(getattr(first, name)[dropped]).all()
        np.testing.assert_array_equal(
            np.delete(getattr(first, name), dropped), np.delete(getattr(whole, name), dropped)
        )
    assert not first.line_of_sight[dropped].any()
    assert np.isnan(first.off_broadside(0.3)[dropped]).all()


def test_azimuths_behind_the_array_are_mirrored_into_its_front() -> None:
    degrees = np.radians([0.0, 80.0, 100.0, 180.0, -100.0, 190.0, 350.0, 720.0 - 45.0])
    np.testing.assert_allclose(np.degrees(fold_into_front(degrees)), [0, 80, 80, 0, -80, -10, -10, -45], atol=1e-9)


def test_the_mirror_image_has_the_cone_of_the_path(table: PathTable) -> None:
    first = first_paths(table)
    yaw = float(np.median(first.azimuth)) + 2.0
    assert (np.cos(first.azimuth - yaw) < 0).any()  # some paths depart behind the array
    cone = np.sin(first.zenith) * np.sin(first.off_broadside(yaw))
    np.testing.assert_allclose(cone, first.cone(yaw), atol=1e-9)


def test_the_cone_is_the_phase_step_between_columns(table: PathTable) -> None:
    first = first_paths(table)
    user = int(np.flatnonzero(first.line_of_sight)[0])
    rows = slice(table.offsets[user], table.offsets[user + 1])
    row = table.offsets[user] + table.delay[rows].argmin()
    per_path = {
        name: getattr(table, name)[row : row + 1] for name in ("gain", "delay", "departure", "arrival", "interactions")
    }
    alone = replace(table, users=table.users[user : user + 1], offsets=np.array([0, 1]), **per_path)
    H = synthesise(alone, Radio(array=AntennaArray(rows=1, columns=4), subcarriers=4, bandwidth=20e6), 0.4)[0]
    np.testing.assert_allclose(np.angle(H[1:] / H[:-1]), np.pi * first.cone(0.4)[user], atol=1e-3)
