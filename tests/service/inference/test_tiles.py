import gc
from dataclasses import replace

import numpy as np
import pytest

from reference_db import CellVersion
from service.inference.channels import Channels
from service.inference.tiles import Tiles
from tests.service.plane_cell import fingerprints_at, make_cell, street
from tests.service.tiny_cell import version_of

CELL = make_cell("plane", 4)


@pytest.fixture
def version() -> CellVersion:
    return version_of(CELL, fingerprints_at(street(200, 1), 4))


def test_pitch_zero_gives_the_exact_neighbourhood(version: CellVersion) -> None:
    places = version.positions[:7] + np.float32(0.3)
    near = Tiles(0.0, Channels()).neighbourhoods(version, places, 9)
    np.testing.assert_array_equal([one.rows for one in near], version.index.nearest(places, 9)[0])


def test_users_of_one_tile_share_the_neighbourhood_of_its_centre(version: CellVersion) -> None:
    tiles, middle = Tiles(2.0, Channels()), np.array([51.0, 5.0], np.float32)
    places = middle + np.float32([[0.9, -0.9], [-0.9, 0.9], [1.1, 0.0]])
    one, other, next_tile = tiles.neighbourhoods(version, places, 9)
    assert one.key == other.key
    np.testing.assert_array_equal(one.rows, version.index.nearest(middle[None], 9)[0][0])
    assert next_tile.key != one.key
    assert tiles.neighbourhoods(version, places[:1], 9)[0].rows is one.rows


def test_an_append_changes_the_keys_of_touched_neighbourhoods_only(version: CellVersion) -> None:
    more = fingerprints_at(version.positions[:1] + np.float32(0.01), 4)
    grown = version_of(CELL, fingerprints_at(street(200, 1), 4), replace(more))
    tiles, places = Tiles(1.0, Channels()), version.positions
    before, after = (tiles.neighbourhoods(some, places, 8) for some in (version, grown))
    renamed = [old.key != new.key for old, new in zip(before, after, strict=True)]
    touched = [200 in new.rows for new in after]
    assert renamed == touched
    assert 0 < sum(touched) < 100


def test_equal_ids_in_another_cell_give_another_key(version: CellVersion) -> None:
    manifest = version.manifest.model_copy(update={"cell": make_cell("other", 4)})
    elsewhere = replace(version, contents=replace(version.contents, manifest=manifest))
    place = version.positions[:1]
    (here,), (there,) = (Tiles(1.0, Channels()).neighbourhoods(some, place, 8) for some in (version, elsewhere))
    assert here.key != there.key


def test_a_description_that_changes_features_changes_the_keys(version: CellVersion) -> None:
    place = version.positions[:1]

    def key_with(**fields: object) -> bytes:
        cell = version.cell.model_copy(update=fields)
        manifest = version.manifest.model_copy(update={"cell": cell})
        described = replace(version, contents=replace(version.contents, manifest=manifest))
        return Tiles(1.0, Channels()).neighbourhoods(described, place, 8)[0].key

    assert key_with(height=20.0) == key_with()
    assert len({key_with(), key_with(bandwidth=20e6), key_with(user_sto=1e-8)}) == 3


def test_fingerprints_degraded_otherwise_have_other_keys(version: CellVersion) -> None:
    """Even where the transform, whose delay origin is rounded, is the same."""
    place = version.positions[:1]

    def key_with(survey_sto: float) -> bytes:
        cell = version.cell.model_copy(update={"survey_sto": survey_sto, "user_sto": 1e-9})
        timed = version_of(cell, fingerprints_at(street(100, 2), 4))
        channels = Channels()
        channels._made[timed] = Channels().of(version)
        return Tiles(1.0, channels).neighbourhoods(timed, place, 8)[0].key

    assert len({key_with(0.0), key_with(0.5e-9), key_with(1e-9)}) == 3


def test_remembered_neighbourhoods_are_freed_with_their_version(version: CellVersion) -> None:
    tiles = Tiles(1.0, Channels())
    passing = version_of(CELL, fingerprints_at(street(50, 2), 4))
    tiles.neighbourhoods(version, version.positions[:3], 8)
    tiles.neighbourhoods(passing, passing.positions[:3], 8)
    assert len(tiles._remembered) == 2
    del passing
    gc.collect()
    assert list(tiles._remembered) == [version]
