"""The neighbourhoods that each retrieval mode chooses."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_db import (
    Mode,
    References,
    TooFewFingerprints,
    first_guess,
    first_neighbourhood,
    next_neighbourhood,
    signal_feature,
)
from reference_db.retrieval import MODES, LeftOut, snapped
from tests.reference_db.street_users import USERS, Floats, Street, errors, fix, no_fix


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n", [1, 16, 499])
def test_a_neighbourhood_has_n_different_fingerprints_and_never_the_one_left_out(
    references: References, users: tuple[Floats, Floats], mode: Mode, n: int
) -> None:
    truth, features = users
    left_out = next_neighbourhood(references, truth, 1)[:, 0]
    found = first_neighbourhood(
        references, mode, features, *fix(truth, 1.0), n, np.random.default_rng(0), left_out=LeftOut.alone(left_out, 500)
    )
    assert (found.dtype, found.shape) == (np.int64, (USERS, n))
    assert all(len(set(row)) == n for row in found.tolist())
    assert ((found >= 0) & (found < 500)).all()
    assert not (found == left_out[:, None]).any()


@pytest.mark.parametrize("mode", MODES)
def test_all_fingerprints_of_a_witness_are_left_out_and_a_witness_may_have_none(
    references: References, users: tuple[Floats, Floats], mode: Mode
) -> None:
    truth, features = users
    witnesses = np.arange(500) % 7
    own = np.arange(USERS) % 9  # 7 and 8 have no fingerprints
    left_out = LeftOut(witnesses, own)
    assert left_out.most == np.bincount(witnesses).max()
    assert LeftOut(witnesses, np.array([8])).most == 0
    found = first_neighbourhood(
        references, mode, features, *fix(truth, 1.0), 30, np.random.default_rng(0), left_out=left_out
    )
    assert found.shape == (USERS, 30)
    assert not (witnesses[found] == own[:, None]).any()


@pytest.mark.parametrize("mode", MODES)
def test_a_neighbourhood_larger_than_the_cell_is_refused(
    references: References, users: tuple[Floats, Floats], mode: Mode
) -> None:
    arguments: dict[str, Any] = {"rng": np.random.default_rng(0)}
    for n, left_out in ((501, None), (500, LeftOut.alone(np.zeros(USERS, np.int64), 500))):
        with pytest.raises(TooFewFingerprints):
            first_neighbourhood(references, mode, users[1], *fix(users[0], 1.0), n, left_out=left_out, **arguments)


def test_each_mode_searches_around_its_own_centre(references: References, users: tuple[Floats, Floats]) -> None:
    truth, features = users
    coarse, accuracy = fix(truth, 10.0)

    def centre(mode: Mode) -> Floats:
        rows = first_neighbourhood(references, mode, features, coarse, accuracy, 16, np.random.default_rng(0))
        return references.positions[rows].mean(axis=1)

    assert errors(centre("neighbourhood"), coarse).mean() < errors(centre("neighbourhood"), truth).mean()
    assert errors(centre("signal"), truth).mean() < 3
    assert errors(centre("fused"), truth).mean() < 3
    middle = references.positions.mean(axis=0)
    for mode in ("random", "iterative"):
        assert errors(centre(mode), middle).mean() < 6


def test_signal_and_fused_need_no_fix_and_neighbourhood_does(
    references: References, users: tuple[Floats, Floats]
) -> None:
    truth, features = users
    for mode in ("signal", "fused"):
        rows = first_neighbourhood(references, mode, features, *no_fix(USERS), 16)
        assert errors(references.positions[rows].mean(axis=1), truth).mean() < 3
    with pytest.raises(ValueError, match="coarse position"):
        first_neighbourhood(references, "neighbourhood", features, *no_fix(USERS), 16)


@pytest.mark.parametrize("mode", ["random", "iterative"])
def test_random_modes_need_a_generator_and_are_reproducible(
    references: References, users: tuple[Floats, Floats], mode: Mode
) -> None:
    coarse, accuracy = no_fix(USERS)
    with pytest.raises(ValueError, match="generator"):
        first_neighbourhood(references, mode, users[1], coarse, accuracy, 16)
    first, again, other = (
        first_neighbourhood(references, mode, users[1], coarse, accuracy, 16, np.random.default_rng(seed))
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_signal_neighbours_stay_near_the_fix(references: References, users: tuple[Floats, Floats]) -> None:
    truth, features = users
    accuracy = np.full(USERS, 1.0, np.float32)
    elsewhere = truth[::-1].copy()  # a fix that contradicts the signal
    rows = first_neighbourhood(references, "signal", features, elsewhere, accuracy, 4)
    apart = np.linalg.norm(references.positions[rows] - elsewhere[:, None], axis=2)
    assert apart.max() < 4 + references.knn_bandwidth + 5  # a corner of the cell may hold few


def test_next_neighbourhood_is_nearest_first_around_the_centre(references: References) -> None:
    centres = references.positions[:10] + np.float32(0.3)
    found = next_neighbourhood(references, centres, 5)
    everything = np.linalg.norm(references.positions[None] - centres[:, None], axis=2)
    expected = np.sort(everything, axis=1)[:, :5]
    np.testing.assert_allclose(np.take_along_axis(everything, found, axis=1), expected, atol=1e-3)
    without = next_neighbourhood(references, centres, 4, left_out=LeftOut.alone(found[:, 0], len(references)))
    np.testing.assert_array_equal(without, found[:, 1:])


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_very_small_cell_can_be_searched(street: Street, n: int) -> None:
    positions, csi = street(n)
    small = References.of(positions, csi)
    guess = first_guess(small, signal_feature(csi), *no_fix(n))
    assert np.isfinite(guess).all()
    rows = first_neighbourhood(small, "fused", signal_feature(csi), *no_fix(n), n)
    np.testing.assert_array_equal(np.sort(rows, axis=1), np.broadcast_to(np.arange(n), (n, n)))


@given(
    east=st.floats(-1e4, 1e4, width=32),
    north=st.floats(-1e4, 1e4, width=32),
    pitch=st.sampled_from([0.5, 1.0, 2.0, 4.0]),
)
def test_a_place_lies_in_the_tile_it_is_snapped_to(east: float, north: float, pitch: float) -> None:
    place = np.array([[east, north]], np.float32)
    centre = snapped(place, pitch)
    assert np.abs(centre.astype(np.float64) - place).max() <= pitch / 2  # exact, because the pitch is a power of two
    np.testing.assert_array_equal(snapped(centre, pitch), centre)
