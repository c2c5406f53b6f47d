from collections.abc import Iterator

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reference_db import PositionIndex, TooFewFingerprints
from tests.reference_db.index.distance_errors import check_nearest, check_within, exact_distances

SIZES = [400, 5000]  # a small cell and a large one


def _positions(n: int, origin: tuple[float, float], seed: int = 0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).uniform(-60, 60, (n, 2)) + origin).astype(np.float32)


@given(
    size=st.integers(1, 200),
    batch=st.integers(1, 50),
    origin=st.tuples(st.floats(-5e4, 5e4), st.floats(-5e4, 5e4)),
    data=st.data(),
)
def test_it_agrees_with_brute_force_wherever_the_origin_lies(
    size: int, batch: int, origin: tuple[float, float], data: st.DataObject
) -> None:
    n = data.draw(st.integers(1, size))
    positions, centres = _positions(size, origin), _positions(batch, origin, seed=1)
    check_nearest(exact_distances(positions, centres), *PositionIndex(positions).nearest(centres, n))


def test_a_very_large_batch_is_as_exact_as_a_single_request() -> None:
    positions, centres = _positions(50, (5e4, -5e4)), _positions(70_000, (5e4, -5e4), seed=1)
    index = PositionIndex(positions)
    indices, distances = index.nearest(centres, 3)
    check_nearest(exact_distances(positions, centres[-500:]), indices[-500:], distances[-500:])
    alone = index.nearest(centres[-1:], 3)
    np.testing.assert_array_equal(indices[-1:], alone[0])
    np.testing.assert_array_equal(distances[-1:], alone[1])


@pytest.fixture
def many_threads() -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(8)
    yield
    faiss.omp_set_num_threads(before)


@pytest.mark.usefixtures("many_threads")
def test_a_large_cell_searched_by_many_threads_is_as_exact() -> None:
    # Without a selector FAISS loses decimetres from 10,000 positions on, if there are fewer queries than threads.
    positions = np.random.default_rng(0).uniform(-2500, 2500, (20_000, 2)).astype(np.float32)
    centres = positions[:3] + np.float32(0.05)
    check_nearest(exact_distances(positions, centres), *PositionIndex(positions).nearest(centres, 5))


@pytest.mark.parametrize("radius", [0.0, 3.0, 500.0])
@pytest.mark.parametrize("size", SIZES)
def test_all_within_a_radius_are_found(size: int, radius: float) -> None:
    positions = _positions(size, (5e4, -5e4))
    found = PositionIndex(positions).within(positions[7], radius)
    expected = np.flatnonzero(exact_distances(positions, positions[[7]])[0] <= radius)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.int64


@pytest.mark.parametrize("size", SIZES)
def test_at_most_the_requested_number_is_found_within_a_radius(size: int) -> None:
    index = PositionIndex(_positions(size, (0, 0)))
    everybody, some = (index.within(np.zeros(2, np.float32), 30, most) for most in (None, 50))
    assert len(everybody) > 50 >= len(some) > 20
    assert set(some.tolist()) <= set(everybody.tolist())
    np.testing.assert_array_equal(index.within(np.zeros(2, np.float32), 30, len(everybody)), everybody)


@pytest.mark.parametrize("size", SIZES)
def test_a_fingerprint_is_nearest_to_itself(size: int) -> None:
    positions = _positions(size, (300, 400))
    indices, distances = PositionIndex(positions).nearest(positions, 1)
    np.testing.assert_array_equal(positions[indices[:, 0]], positions)
    np.testing.assert_array_equal(distances, 0)


@pytest.mark.parametrize("size", SIZES)
def test_an_n_beyond_the_size_is_refused_with_both_numbers(size: int) -> None:
    with pytest.raises(TooFewFingerprints) as caught:
        PositionIndex(_positions(size, (0, 0))).nearest(np.zeros((1, 2), np.float32), size + 1)
    assert (caught.value.wanted, caught.value.available) == (size + 1, size)


@pytest.mark.parametrize("size", SIZES)
def test_no_centres_give_no_neighbours(size: int) -> None:
    indices, distances = PositionIndex(_positions(size, (0, 0))).nearest(np.empty((0, 2), np.float32), 2)
    assert indices.shape == distances.shape == (0, 2)


@pytest.mark.parametrize("centres", [np.full((1, 2), np.nan), np.zeros(2), np.zeros((1, 3))])
def test_centres_that_are_not_finite_pairs_are_refused(centres: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="centres"):
        PositionIndex(_positions(5, (0, 0))).nearest(centres.astype(np.float32), 1)


def test_an_n_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        PositionIndex(_positions(5, (0, 0))).nearest(np.zeros((1, 2), np.float32), 0)


def _extended(positions: NDArray[np.float32], cuts: list[int]) -> PositionIndex:
    first, *others = np.split(positions, cuts)
    index = PositionIndex(first)
    for some in others:
        index = index.extended(some)
    return index


def _places(kind: str, n: int, seed: int) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    match kind:
        case "copies":
            places = random.integers(0, 6, (n, 2)).astype(float)
        case "outliers":
            places = random.uniform(0, 60, (n, 2))
            places[::50] = random.uniform(-1e5, 1e5, places[::50].shape)
        case "a town that grows":
            places = np.stack([np.linspace(0, 500, n), random.uniform(0, 60, n)], axis=1)
        case _:
            places = random.uniform(-60, 60, (n, 2))
    return places.astype(np.float32)


@pytest.mark.parametrize("kind", ["anywhere", "copies", "outliers", "a town that grows"])
@given(
    size=st.sampled_from([1, 90, 4000, 4096, 4097, 9000, 20_000]),
    shares=st.lists(st.floats(0, 1), max_size=5),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=settings.default.max_examples // 7)  # each makes whole indices
def test_an_extended_index_equals_brute_force_over_all_positions(
    kind: str, size: int, shares: list[float], seed: int
) -> None:
    positions = _places(kind, size, seed)
    index = _extended(positions, sorted(round(share * size) for share in shares))
    assert len(index) == size
    np.testing.assert_array_equal(index.positions, positions)
    random = np.random.default_rng(seed)
    centres = np.concatenate([positions[random.integers(0, size, 3)], np.float32([[30, 30], [-2e3, 5e4]])])
    everything = exact_distances(positions, centres)
    for n in {1, min(64, size), size}:
        check_nearest(everything, *index.nearest(centres, n))
    for centre, away in zip(centres, everything, strict=True):
        found = index.within(centre, 5.5)
        check_within(away, 5.5, found)
        some = index.within(centre, 5.5, 40)
        assert len(some) <= 40
        assert set(some.tolist()) <= set(found.tolist())


def test_a_position_appended_to_a_large_cell_is_found_by_its_row() -> None:
    positions = _positions(6000, (0, 0))
    index = PositionIndex(positions).extended(np.float32([[500, 500], [501, 500]]))
    indices, distances = index.nearest(np.float32([[501, 500]]), 3)
    assert indices[0, :2].tolist() == [6001, 6000]
    np.testing.assert_array_equal(distances[0, :2], [0, 1])
    np.testing.assert_array_equal(index.within(np.float32([500, 500]), 1), [6000, 6001])


@pytest.mark.parametrize("appended", [500, 5000, 15_000])
def test_an_even_sample_within_a_radius_includes_appended_positions(appended: int) -> None:
    index = _extended(_positions(20_000, (0, 0)), [20_000 - appended, 20_000 - appended // 3])
    centre = np.zeros(2, np.float32)
    everybody, some = index.within(centre, 50), index.within(centre, 50, 1000)
    assert 350 < len(some) <= 1000
    share, expected = ((rows >= 20_000 - appended).mean() for rows in (some, everybody))
    assert share == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize("size", SIZES)
def test_extending_an_index_does_not_change_it(size: int) -> None:
    positions, more = _positions(size, (0, 0)), _positions(5000, (0, 0), seed=1)
    index = PositionIndex(positions)
    before = index.nearest(more[:20], 30)
    longer = index.extended(more[:10])
    longer.extended(more)
    assert (len(index), len(longer)) == (size, size + 10)
    for one, other in zip(index.nearest(more[:20], 30), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert longer.within(more[3], 0).tolist() == [size + 3]


def test_an_index_can_be_extended_by_no_positions() -> None:
    for size in (0, 3, 5000):
        index = PositionIndex(_positions(size, (0, 0)))
        assert len(index.extended(np.empty((0, 2), np.float32))) == size
        assert len(index.extended(np.zeros((2, 2), np.float32))) == size + 2


def test_positions_of_another_shape_are_not_appended() -> None:
    with pytest.raises(ValueError, match="positions have shape"):
        PositionIndex(_positions(5, (0, 0))).extended(np.zeros((2, 3), np.float32))


def test_resident_bytes_are_the_memory_in_use() -> None:
    index = PositionIndex(_positions(6000, (0, 0)))
    assert 16 * 6000 < index.resident_bytes < 40 * 6000
    assert index.extended(_positions(100, (0, 0))).resident_bytes == index.resident_bytes + 1600
