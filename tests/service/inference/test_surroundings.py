import gc
import weakref

import numpy as np
import pytest

from reference_db import CellVersion
from service.inference.surroundings import Surroundings
from tests.service.tiny_cell import cell_of

PITCH = 2.0


@pytest.fixture
def version() -> CellVersion:
    east, north = np.meshgrid(np.arange(0, 41, 4.0), np.arange(0, 41, 4.0))
    return cell_of(np.stack([east.ravel(), north.ravel()], axis=1).astype(np.float32))


def at(east: float, north: float) -> np.ndarray:
    return np.array([east, north], np.float32)


def take_all(surroundings: Surroundings) -> list[tuple[float, float]]:
    places = []
    while (found := surroundings.take()) is not None:
        places.append((float(found[1][0]), float(found[1][1])))
    return places


def test_the_tiles_around_are_offered_once_and_those_with_a_common_side_first(version: CellVersion) -> None:
    surroundings = Surroundings(PITCH)
    surroundings.note(version, at(11, 21))
    assert surroundings
    places = take_all(surroundings)
    assert set(places[:4]) == {(13, 21), (9, 21), (11, 23), (11, 19)}
    assert set(places[4:]) == {(13, 23), (9, 23), (13, 19), (9, 19)}
    assert not surroundings


@pytest.mark.parametrize("step", [(2, 0), (0, -2), (-2, 2)])
def test_a_user_who_goes_on_is_expected_straight_ahead(version: CellVersion, step: tuple[int, int]) -> None:
    surroundings = Surroundings(PITCH)
    start, forward = at(21, 21), np.array(step, np.float32)
    surroundings.note(version, start)
    surroundings.note(version, start + forward)
    found = surroundings.take()
    assert found is not None
    np.testing.assert_array_equal(found[1], start + 2 * forward)


def test_a_tile_far_from_the_last_one_tells_no_direction(version: CellVersion) -> None:
    surroundings = Surroundings(PITCH)
    surroundings.note(version, at(1, 1))
    surroundings.note(version, at(21, 21))
    assert set(take_all(surroundings)[:4]) == {(23, 21), (19, 21), (21, 23), (21, 19)}


def test_the_tiles_around_the_tile_entered_last_come_first(version: CellVersion) -> None:
    surroundings = Surroundings(PITCH)
    surroundings.note(version, at(5, 5))
    surroundings.note(version, at(31, 31))
    places = take_all(surroundings)
    assert all(east > 20 for east, _ in places[:8])
    assert all(east < 20 for east, _ in places[8:])


def test_no_tile_outside_the_fingerprints_is_offered(version: CellVersion) -> None:
    surroundings = Surroundings(PITCH)
    surroundings.note(version, at(1, 1))
    assert all(east >= -1 and north >= -1 for east, north in take_all(surroundings))


def test_a_version_that_was_replaced_is_neither_kept_in_memory_nor_offered() -> None:
    surroundings, version = Surroundings(PITCH), cell_of(np.zeros((4, 2), np.float32))
    surroundings.note(version, at(0, 0))
    alive = weakref.ref(version)
    del version
    gc.collect()
    assert alive() is None
    assert surroundings.take() is None


def test_only_the_newest_places_are_remembered(version: CellVersion) -> None:
    surroundings = Surroundings(PITCH)
    for _ in range(1000):
        surroundings.note(version, at(11, 11))
    assert len(take_all(surroundings)) <= 512


def test_without_tiles_nothing_is_remembered(version: CellVersion) -> None:
    surroundings = Surroundings(0.0)
    surroundings.note(version, at(11, 11))
    surroundings.note_loaded(version, 100)
    assert not surroundings


def crowded() -> CellVersion:
    """One fingerprint in each of five tiles in a row, and two more in the fourth."""
    places = [(1, 1), (3, 1), (5, 1), (7, 1), (9, 1), (6.5, 0.5), (7.5, 1.5)]
    return cell_of(np.array(places, np.float32))


def test_the_tiles_of_a_loaded_cell_are_offered_once_and_those_with_most_fingerprints_first() -> None:
    surroundings, version = Surroundings(PITCH), crowded()
    surroundings.note_loaded(version, 100)
    assert surroundings
    places = take_all(surroundings)
    assert places[0] == (7, 1)
    assert sorted(places) == [(1, 1), (3, 1), (5, 1), (7, 1), (9, 1)]
    assert not surroundings


def test_the_tiles_of_a_loaded_cell_come_nearest_to_its_users_first() -> None:
    surroundings, version = Surroundings(PITCH), crowded()
    surroundings.note_loaded(version, 100)
    surroundings.note(version, at(1, 1))
    nearby = []
    while (found := surroundings.take()) is not None and found.nearby:
        nearby.append(tuple(found.centre))
    assert nearby == [(3, 1)]  # the only tile around that is among the fingerprints
    assert found is not None
    assert [tuple(found.centre), *take_all(surroundings)] == [(1, 1), (3, 1), (5, 1), (7, 1), (9, 1)]


def test_a_tile_that_a_user_enters_meanwhile_comes_before_those_of_a_loaded_cell() -> None:
    surroundings, version = Surroundings(PITCH), crowded()
    surroundings.note_loaded(version, 100)
    assert surroundings.take() is not None
    surroundings.note(version, at(1, 1))
    found = surroundings.take()
    assert found is not None
    assert (found.nearby, tuple(found.centre)) == (True, (3, 1))
    assert len(take_all(surroundings)) == 4


def test_no_more_tiles_of_a_loaded_cell_are_offered_than_wanted() -> None:
    surroundings, version = Surroundings(PITCH), crowded()
    surroundings.note_loaded(version, 2)
    surroundings.note_loaded(crowded(), 0)
    assert len(take_all(surroundings)) == 2


def test_loaded_cells_are_forgotten_on_request_and_places_near_users_are_not() -> None:
    surroundings, versions = Surroundings(PITCH), (crowded(), crowded())
    for version in versions:
        surroundings.note_loaded(version, 100)
    assert surroundings.take() is not None
    surroundings.note(versions[0], at(1, 1))
    surroundings.forget_loaded()
    assert take_all(surroundings) == [(3, 1)]


def test_a_loaded_version_that_was_replaced_is_neither_kept_in_memory_nor_offered() -> None:
    surroundings, begun, waiting = Surroundings(PITCH), crowded(), crowded()
    for version in (begun, waiting):
        surroundings.note_loaded(version, 100)
    surroundings.take()
    alive = [weakref.ref(version) for version in (begun, waiting)]
    del version, begun, waiting
    gc.collect()
    assert [one() for one in alive] == [None, None]
    assert surroundings.take() is None
