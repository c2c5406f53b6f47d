"""Features of fingerprints in a made-up cell, described by their sums."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from models.artifact.channel_transform import ChannelTransform
from reference_db import CellVersion
from service.inference.channels import Channels
from service.inference.feature_cache import FeatureCache
from service.inference.tiles import Neighbourhood
from tests.service.plane_cell import fingerprints_at, make_cell, street
from tests.service.tiny_cell import version_of

CELL = make_cell("plane")
WIDTH = 3
ROW = 4 * WIDTH  # bytes


class Described:
    """Describes CSI, and counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, channel: ChannelTransform, csi: np.ndarray) -> np.ndarray:
        self.count += len(csi)
        sums = csi.reshape(len(csi), -1).sum(axis=1)
        return np.stack([sums, 2 * sums, np.broadcast_to(channel.scale, sums.shape)], axis=1)


@pytest.fixture
def described() -> Described:
    return Described()


def near(version: CellVersion) -> Neighbourhood:
    return Neighbourhood(version, Channels().of(version), np.arange(len(version)), b"")


def test_each_fingerprint_is_described_once(described: Described) -> None:
    one = near(version_of(CELL, fingerprints_at(street(40, 1))))
    cache = FeatureCache(WIDTH, 40 * ROW)
    first, both = np.arange(5, 25), np.array([30, 7, 24, 2, 39])
    np.testing.assert_array_equal(cache.describe(one, first, described), Described()(one.channel, csi_of(one, first)))
    np.testing.assert_array_equal(cache.describe(one, both, described), Described()(one.channel, csi_of(one, both)))
    assert described.count == 23
    assert cache.held_bytes == 23 * ROW


def test_a_fingerprint_in_two_neighbourhoods_is_described_once(described: Described) -> None:
    one = near(version_of(CELL, fingerprints_at(street(40, 1))))
    cache, wanted = FeatureCache(WIDTH, 40 * ROW), np.array([[3, 1, 4], [1, 5, 3]])
    for _ in range(2):  # fresh, and held
        found = cache.describe(one, wanted, described)
        assert found.shape == (2, 3, WIDTH)
        expected = Described()(one.channel, csi_of(one, wanted.ravel()))
        np.testing.assert_array_equal(found.reshape(-1, WIDTH), expected)
    assert described.count == 4


def csi_of(one: Neighbourhood, rows: np.ndarray) -> np.ndarray:
    return one.version.csi_of(rows)


def test_the_least_recently_used_leave(described: Described) -> None:
    one = near(version_of(CELL, fingerprints_at(street(40, 1))))
    cache = FeatureCache(WIDTH, 4 * ROW + ROW - 1)
    for some in ([0, 1, 2, 3], [1], [4, 5]):  # 0 and 2 leave
        cache.describe(one, np.array(some), described)
    assert cache.held_bytes == 4 * ROW
    described.count = 0
    found = cache.describe(one, np.array([1, 3, 4, 5]), described)
    assert described.count == 0
    np.testing.assert_array_equal(found, described(one.channel, csi_of(one, np.array([1, 3, 4, 5]))))
    described.count = 0
    cache.describe(one, np.array([0, 2]), described)
    assert described.count == 2


@pytest.mark.parametrize("rows", [0, 3])
def test_more_fingerprints_than_there_is_room_for_are_described_all_the_same(described: Described, rows: int) -> None:
    one = near(version_of(CELL, fingerprints_at(street(40, 1))))
    cache, wanted = FeatureCache(WIDTH, rows * ROW), np.arange(40)
    for _ in range(2):
        found = cache.describe(one, wanted, described)
        np.testing.assert_array_equal(found, Described()(one.channel, csi_of(one, wanted)))
    assert cache.held_bytes == rows * ROW


def test_a_new_version_describes_only_the_fingerprints_that_it_adds(described: Described) -> None:
    parts = fingerprints_at(street(300, 1)), fingerprints_at(street(3, 2))
    before, after = near(version_of(CELL, parts[0])), near(version_of(CELL, *parts))
    cache = FeatureCache(WIDTH, 400 * ROW)
    cache.describe(before, np.arange(300), described)
    found = cache.describe(after, np.arange(303), described)
    assert described.count == 303
    np.testing.assert_array_equal(found, Described()(after.channel, csi_of(after, np.arange(303))))


def test_a_version_with_another_timing_is_described_again(described: Described) -> None:
    fingerprints = fingerprints_at(street(40, 1))
    cells = CELL, CELL.model_copy(update={"survey_sto": 0.0, "user_sto": 5e-9})
    cache = FeatureCache(WIDTH, 100 * ROW)
    for one in (near(version_of(cell, fingerprints)) for cell in cells):
        found = cache.describe(one, np.arange(40), described)
        np.testing.assert_array_equal(found, Described()(one.channel, csi_of(one, np.arange(40))))
    assert described.count == 80


def test_features_do_not_keep_their_version_in_memory(described: Described) -> None:
    version = version_of(CELL, fingerprints_at(street(40, 1)))
    cache, alive = FeatureCache(WIDTH, 40 * ROW), weakref.ref(version)
    cache.describe(near(version), np.arange(40), described)
    del version
    gc.collect()
    assert alive() is None


def test_nothing_is_held_of_fingerprints_that_could_not_be_described(described: Described) -> None:
    one = near(version_of(CELL, fingerprints_at(street(40, 1))))
    cache = FeatureCache(WIDTH, 40 * ROW)

    def fail(channel: ChannelTransform, csi: np.ndarray) -> np.ndarray:
        raise MemoryError

    with pytest.raises(MemoryError):
        cache.describe(one, np.arange(10), fail)
    assert cache.held_bytes == 0
    found = cache.describe(one, np.arange(10), described)
    np.testing.assert_array_equal(found, Described()(one.channel, csi_of(one, np.arange(10))))


def test_two_threads_that_describe_the_same_fingerprints_hold_them_once() -> None:
    one = near(version_of(CELL, fingerprints_at(street(40, 1))))
    cache, both = FeatureCache(WIDTH, 40 * ROW), threading.Barrier(2)
    wanted = np.arange(10)

    def describe(channel: ChannelTransform, csi: np.ndarray) -> np.ndarray:
        both.wait(timeout=10)
        return Described()(channel, csi)

    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda _: cache.describe(one, wanted, describe), range(2)))
    np.testing.assert_array_equal(found[0], found[1])
    assert cache.held_bytes == 10 * ROW
