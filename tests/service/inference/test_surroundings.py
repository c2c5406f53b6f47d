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
    assert not surroundings
