import numpy as np
import pytest
from numpy.typing import NDArray

from reference_db.index.signal_lists import SignalLists

Floats = NDArray[np.float32]

N = 6500


def _vectors(n: int, seed: int = 0) -> Floats:
    """Vectors float32 `[n, 24]` on a surface, like those of a town."""
    places = np.random.default_rng(seed).uniform(-1, 1, (n, 2))
    waves = np.random.default_rng(99).normal(0, 4, (2, 24))
    return np.sin(places @ waves + np.arange(24)).astype(np.float32)


def _squared(vectors: Floats, asked: Floats) -> NDArray[np.float64]:
    return np.square(asked[:, None].astype(np.float64) - vectors).sum(axis=2)


@pytest.fixture(scope="module")
def vectors() -> Floats:
    return _vectors(N)


@pytest.fixture(scope="module")
def lists(vectors: Floats) -> SignalLists:
    return SignalLists(N, vectors.__getitem__)


@pytest.mark.parametrize("k", [1, 33, 600])
def test_a_search_misses_few_of_the_nearest(lists: SignalLists, vectors: Floats, k: int) -> None:
    asked = _vectors(100, seed=1)
    rows, squared = lists.nearest(asked, k)
    assert (rows.dtype, squared.dtype, rows.shape) == (np.int64, np.float32, (100, k))
    everything = _squared(vectors, asked)
    np.testing.assert_allclose(np.sqrt(squared), np.sqrt(np.take_along_axis(everything, rows, axis=1)), atol=1e-3)
    nearest = np.sort(everything, axis=1)[:, :k]
    assert (np.sqrt(squared) < np.sqrt(nearest) + 1e-3).mean() > 0.99
    assert (np.diff(squared, axis=1) >= 0).all()
    assert all(len(set(row)) == k for row in rows.tolist())


def test_a_search_for_all_vectors_finds_all(lists: SignalLists) -> None:
    rows, squared = lists.nearest(_vectors(2, seed=1), N)
    np.testing.assert_array_equal(np.sort(rows, axis=1), [np.arange(N)] * 2)
    assert np.isfinite(squared).all()


@pytest.mark.parametrize("kinds", [1, 3])
def test_enough_copies_of_few_vectors_are_found(kinds: int) -> None:
    few = _vectors(kinds)
    lists = SignalLists(N, lambda rows: few[rows % kinds])
    rows, squared = lists.nearest(few, 50)
    np.testing.assert_array_equal(rows % kinds, np.arange(kinds)[:, None].repeat(50, axis=1))
    assert all(len(set(row)) == 50 for row in rows.tolist())
    np.testing.assert_allclose(squared, 0, atol=1e-3)


def test_a_result_does_not_depend_on_the_other_queries(lists: SignalLists) -> None:
    asked = _vectors(300, seed=1)
    rows, squared = lists.nearest(asked, 33)
    for one in range(0, 300, 20):
        alone = lists.nearest(asked[one : one + 1], 33)
        np.testing.assert_array_equal(alone[0][0], rows[one])
        np.testing.assert_array_equal(alone[1][0], squared[one])


def test_the_same_vectors_make_the_same_lists(lists: SignalLists, vectors: Floats) -> None:
    asked = _vectors(100, seed=1)
    again = SignalLists(N, vectors.__getitem__)
    for first, second in zip(lists.nearest(asked, 33), again.nearest(asked, 33), strict=True):
        np.testing.assert_array_equal(first, second)


def test_vectors_and_their_squared_lengths_are_returned(lists: SignalLists, vectors: Floats) -> None:
    rows = np.array([N - 1, 0, 17, 17])
    held, powers = lists.of(rows)
    np.testing.assert_allclose(held, vectors[rows], atol=1e-3)
    np.testing.assert_allclose(powers, np.square(vectors[rows]).sum(axis=1), rtol=1e-3)
    assert lists.of(rows[:0])[0].shape == (0, 24)


def test_vectors_are_computed_a_few_thousand_at_a_time(vectors: Floats) -> None:
    asked_for: list[int] = []

    def vectors_of(rows: NDArray[np.int64]) -> Floats:
        asked_for.append(len(rows))
        return vectors[rows]

    SignalLists(N, vectors_of)
    assert max(asked_for) < 4096 < N <= sum(asked_for) <= 2 * N


@pytest.mark.parametrize("appended", [1, 700, 2 * N])
def test_a_search_misses_few_appended_vectors(lists: SignalLists, vectors: Floats, appended: int) -> None:
    more, asked = _vectors(appended, seed=2), _vectors(100, seed=1)
    longer = lists.extended(more[: appended // 3]).extended(more[appended // 3 :])
    everything = _squared(np.concatenate([vectors, more]), asked)
    rows, squared = longer.nearest(asked, 33)
    np.testing.assert_allclose(np.sqrt(squared), np.sqrt(np.take_along_axis(everything, rows, axis=1)), atol=1e-3)
    assert (np.sqrt(squared) < np.sqrt(np.sort(everything, axis=1)[:, :33]) + 1e-3).mean() > 0.99
    assert (np.diff(squared, axis=1) >= 0).all()
    assert all(len(set(row)) == 33 for row in rows.tolist())
    found = longer.nearest(more[-1:], 1)
    np.testing.assert_allclose(found[1], 0, atol=1e-3)
    held, powers = longer.of(rows[0])
    np.testing.assert_allclose(held, np.concatenate([vectors, more])[rows[0]], atol=1e-3)
    np.testing.assert_allclose(powers, np.square(held).sum(axis=1), rtol=1e-5)


def test_a_search_for_all_vectors_finds_appended_ones(lists: SignalLists) -> None:
    longer = lists.extended(_vectors(50, seed=2))
    np.testing.assert_array_equal(np.sort(longer.nearest(_vectors(1, seed=1), N + 50)[0]), [np.arange(N + 50)])


def test_extending_lists_does_not_change_the_shared_ones(lists: SignalLists) -> None:
    asked = _vectors(20, seed=1)
    before = lists.nearest(asked, 33)
    longer = lists.extended(asked)
    later = longer.nearest(asked, 1)
    longer.extended(asked).extended(asked)
    for one, other in zip((*lists.nearest(asked, 33), *longer.nearest(asked, 1)), (*before, *later), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(later[0][:, 0], np.arange(N, N + 20))
    assert longer.resident_bytes - lists.resident_bytes == 20 * (4 * 24 + 8)
