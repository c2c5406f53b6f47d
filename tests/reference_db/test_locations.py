import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from reference_db.errors import BadHoldOut
from reference_db.locations import choose_held_out, find_locations, find_squares


def linked(positions: np.ndarray, distance: float) -> np.ndarray:
    """The same by SciPy."""
    pairs = cKDTree(positions).query_pairs(distance, output_type="ndarray")
    n = len(positions)
    return np.asarray(connected_components(coo_matrix((np.ones(len(pairs)), (*pairs.T,)), (n, n)), directed=False)[1])


@given(seed=st.integers(0, 10_000), n=st.integers(1, 120), spread=st.floats(0.5, 40), distance=st.floats(0.05, 5))
@settings(deadline=None, max_examples=60)
def test_locations_are_the_linked_components_in_the_order_of_their_first_positions(
    seed: int, n: int, spread: float, distance: float
) -> None:
    positions = np.random.default_rng(seed).uniform(-spread, spread, (n, 2)).astype(np.float32)
    np.testing.assert_array_equal(find_locations(positions, distance), linked(positions, distance))


def test_repeated_snapshots_of_a_grid_are_a_location_each() -> None:
    x, y = np.meshgrid(np.arange(30) * 0.2, np.arange(20) * 0.2)
    grid = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)
    locations = find_locations(np.repeat(grid, 5, axis=0), 0.1)
    np.testing.assert_array_equal(locations, np.repeat(np.arange(600), 5))


def test_a_walk_is_one_location_and_squares_divide_it() -> None:
    walk = np.stack([np.linspace(0, 10, 1001), np.zeros(1001)], axis=1).astype(np.float32)
    assert not find_locations(walk, 0.1).any()
    squares = find_squares(walk, 1.0)
    assert len(np.unique(squares)) == 11
    np.testing.assert_array_equal(squares, np.floor(walk[:, 0]))
    with pytest.raises(BadHoldOut, match="its 1001 fingerprints are 1 locations, the largest of them of 1001"):
        choose_held_out(find_locations(walk, 0.1), 0.2, np.random.default_rng(0))


@given(seed=st.integers(0, 1000), share=st.floats(0.01, 0.9))
@settings(deadline=None, max_examples=30)
def test_locations_are_held_out_whole_and_the_same_with_the_same_seed(seed: int, share: float) -> None:
    locations = np.random.default_rng(seed).permutation(np.repeat(np.arange(40), 3))
    held = choose_held_out(locations, share, np.random.default_rng(seed))
    assert not set(locations[held]) & set(locations[~held])
    assert len(set(locations[held])) == max(1, round(share * 40))
    np.testing.assert_array_equal(held, choose_held_out(locations, share, np.random.default_rng(seed)))


def test_one_location_of_most_fingerprints_cannot_be_held_out() -> None:
    locations = np.array([0] * 60 + list(range(1, 41)))
    with pytest.raises(BadHoldOut, match="the largest of them of 60"):
        choose_held_out(locations, 0.2, np.random.default_rng(0))
