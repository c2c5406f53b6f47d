"""First guesses in small, large and growing cells."""

import numpy as np
import pytest
from numpy.typing import NDArray

from reference_db import (
    References,
    TooFewFingerprints,
    first_guess,
    first_neighbourhood,
    next_neighbourhood,
    signal_feature,
)
from reference_db.half_csi import CsiPart, PackedCsi, pack_csi
from reference_db.retrieval import LeftOut, _most_alike
from reference_db.version_plan import needs_reindexing
from tests.reference_db.street_users import USERS, Floats, Street, errors, fix, no_fix


@pytest.fixture(scope="module")
def large(street: Street) -> References:
    """A cell with more fingerprints than a request is compared with."""
    return References.of(*street(6000))


def test_the_signal_alone_locates_users(references: References, users: tuple[Floats, Floats]) -> None:
    truth, features = users
    guess = first_guess(references, features, *no_fix(USERS))
    assert (guess.dtype, guess.shape) == (np.float32, (USERS, 2))
    assert errors(guess, truth).max() < 5
    assert errors(guess, truth).mean() < 1.5


@pytest.mark.parametrize("sigma", [0.1, 1.0, 3.0, 10.0, 30.0])
def test_a_guess_is_no_worse_than_the_fix_nor_much_worse_than_the_signal(
    references: References, users: tuple[Floats, Floats], sigma: float
) -> None:
    truth, features = users
    alone = errors(first_guess(references, features, *no_fix(USERS)), truth).mean()
    coarse, accuracy = fix(truth, sigma)
    fused = errors(first_guess(references, features, coarse, accuracy), truth).mean()
    assert fused < 1.02 * errors(coarse, truth).mean()
    assert fused < 1.1 * alone


def test_a_perfect_fix_is_the_guess(references: References, users: tuple[Floats, Floats]) -> None:
    truth, features = users
    guess = first_guess(references, features, truth, np.zeros(USERS, np.float32))
    np.testing.assert_allclose(guess, truth, atol=1e-4)


def test_a_fix_with_a_huge_error_changes_nothing(references: References, users: tuple[Floats, Floats]) -> None:
    truth, features = users
    coarse = truth + np.float32(500)
    guess = first_guess(references, features, coarse, np.full(USERS, 1e6, np.float32))
    np.testing.assert_allclose(guess, first_guess(references, features, *no_fix(USERS)), atol=0.1)


def test_a_fix_decides_between_two_streets_with_the_same_signals(street: Street) -> None:
    positions, csi = street(300)
    elsewhere = positions + np.float32([200, 0])
    twins = References.of(np.concatenate([positions, elsewhere]), np.concatenate([csi, csi]))
    truth, heard = street(20, seed=1)
    features = signal_feature(heard)
    for place in (truth, truth + np.float32([200, 0])):
        guess = first_guess(twins, features, *fix(place, 10.0))
        assert errors(guess, place).max() < 10
    # Without a fix the guess is in one of the two streets, not between them.
    undecided = first_guess(twins, features, *no_fix(20))
    either = np.minimum(errors(undecided, truth), errors(undecided, truth + np.float32([200, 0])))
    assert either.max() < 10


def test_a_row_does_not_depend_on_the_others(references: References, users: tuple[Floats, Floats]) -> None:
    truth, features = users
    coarse, accuracy = fix(truth, 3.0)
    coarse[::2] = np.nan
    together = first_guess(references, features, coarse, accuracy)
    for row in (0, 1, USERS - 1):
        one = slice(row, row + 1)
        np.testing.assert_allclose(
            first_guess(references, features[one], coarse[one], accuracy[one])[0], together[row], rtol=0, atol=1e-3
        )


@pytest.mark.parametrize("sigma", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("leave_out", [False, True])
def test_a_large_cell_is_searched_like_a_small_one(
    large: References, users: tuple[Floats, Floats], sigma: float, leave_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, features = users
    coarse, accuracy = fix(truth, sigma)
    coarse[:3] += 500  # no fingerprint is inside their gates
    nearest = next_neighbourhood(large, coarse, 1)[:, 0]
    left_out = LeftOut.alone(nearest, len(large)) if leave_out else None
    found, unlike = _most_alike(large, features, coarse, accuracy, 32, left_out)
    monkeypatch.setattr("reference_db.retrieval._MOST_CANDIDATES", len(large))
    expected, their_unlike = _most_alike(large, features, coarse, accuracy, 32, left_out)
    np.testing.assert_allclose(unlike, their_unlike, atol=1e-4)
    assert (found == expected).mean() > 0.99  # except for ties


def test_without_a_fix_approximate_search_moves_few_guesses(
    street: Street, users: tuple[Floats, Floats], monkeypatch: pytest.MonkeyPatch
) -> None:
    positions, csi = street(9000)
    features = users[1]
    guess = first_guess(References.of(positions, csi), features, *no_fix(USERS))
    monkeypatch.setattr("reference_db.index.signal._FLAT", 9000)
    exact = first_guess(References.of(positions, csi), features, *no_fix(USERS))
    assert (errors(guess, exact) > 0.1).mean() < 0.04


def test_features_computed_on_demand_give_the_same_guess(
    street: Street, users: tuple[Floats, Floats], monkeypatch: pytest.MonkeyPatch
) -> None:
    positions, csi = street(500)
    features = users[1]
    guess = first_guess(References.of(positions, csi), features, *no_fix(USERS))
    monkeypatch.setattr("reference_db.references._MOST_FEATURES_HELD", 100)
    np.testing.assert_array_equal(first_guess(References.of(positions, csi), features, *no_fix(USERS)), guess)


def test_a_row_does_not_depend_on_the_others_in_a_large_cell(large: References, users: tuple[Floats, Floats]) -> None:
    truth, features = users
    coarse, accuracy = fix(truth, 1.0)
    accuracy[::7] = 20.0  # these users' candidates are sampled
    together = first_guess(large, features, coarse, accuracy)
    for row in (0, 1, 7, USERS - 1):
        one = slice(row, row + 1)
        alone = first_guess(large, features[one], coarse[one], accuracy[one])
        np.testing.assert_allclose(alone[0], together[row], rtol=0, atol=1e-3)


def test_a_poor_fix_in_a_large_cell_is_no_worse_than_the_signal(
    large: References, users: tuple[Floats, Floats]
) -> None:
    truth, features = users
    coarse, accuracy = fix(truth, 20.0)
    alone = errors(first_guess(large, features, *no_fix(USERS)), truth).mean()
    assert errors(first_guess(large, features, coarse, accuracy), truth).mean() < 1.5 * alone + 0.1


def test_a_fix_far_outside_the_cell_still_gives_a_finite_guess(
    references: References, users: tuple[Floats, Floats]
) -> None:
    far = np.full((USERS, 2), 1e4, np.float32)
    for accuracy in (0.0, 1.0, 100.0):
        assert np.isfinite(first_guess(references, users[1], far, np.full(USERS, accuracy, np.float32))).all()


def test_a_fingerprint_left_out_does_not_affect_the_guess(references: References, street: Street) -> None:
    positions, csi = street(500)
    rows = np.arange(100)
    features = signal_feature(csi[rows])
    with_itself = errors(first_guess(references, features, *no_fix(100)), positions[rows])
    without = errors(first_guess(references, features, *no_fix(100), LeftOut.alone(rows, 500)), positions[rows])
    assert with_itself.mean() < 0.1
    assert without.mean() > 0.3


def test_leaving_out_the_only_fingerprint_is_refused(street: Street) -> None:
    positions, csi = street(1)
    with pytest.raises(TooFewFingerprints):
        first_guess(
            References.of(positions, csi), signal_feature(csi), *no_fix(1), LeftOut.alone(np.zeros(1, np.int64), 1)
        )


def test_fingerprints_at_one_position_do_not_divide_by_zero(street: Street) -> None:
    _, csi = street(30)
    stacked = References.of(np.full((30, 2), 40, np.float32), csi)
    np.testing.assert_allclose(first_guess(stacked, signal_feature(csi), *no_fix(30)), 40, atol=1e-3)


def _grown(positions: Floats, csi: NDArray[np.complex64], indexed: int, step: int) -> References:
    grown = References.of(positions[:indexed], csi[:indexed])
    for first in range(indexed, len(positions), step):
        grown = grown.extended(positions[first : first + step], csi[first : first + step])
    return grown


def _hold_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reference_db.index.position._FLAT", 900)
    monkeypatch.setattr("reference_db.index.signal._FLAT", 900)
    monkeypatch.setattr("reference_db.retrieval._MOST_CANDIDATES", 800)


@pytest.mark.parametrize("order", ["anywhere", "new streets"])
@pytest.mark.parametrize("large", [False, True])
def test_guesses_with_the_longest_tail_are_as_good_as_after_reindexing(
    street: Street, users: tuple[Floats, Floats], large: bool, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        _hold_as_large(monkeypatch)
    indexed, total = (1600, 2000) if large else (512, 640)
    positions, csi = street(total)
    if order == "new streets":
        rising = np.argsort(positions[:, 1])
        positions, csi = positions[rising], csi[rising]
    truth, features = users
    whole, grown = References.of(positions, csi), _grown(positions, csi, indexed, 120)
    assert not needs_reindexing(indexed, total - indexed)
    assert len(grown) == len(whole) == total
    np.testing.assert_array_equal(grown.positions, positions)
    for coarse in (no_fix(USERS), fix(truth, 1.0), fix(truth, 10.0)):
        ours, theirs = (errors(first_guess(one, features, *coarse), truth).mean() for one in (grown, whole))
        assert ours < 1.15 * theirs + 0.02
    np.testing.assert_array_equal(  # search by position stays exact
        np.sort(next_neighbourhood(grown, truth, 16), axis=1), np.sort(next_neighbourhood(whole, truth, 16), axis=1)
    )


@pytest.mark.parametrize("large", [False, True])
def test_a_cold_load_gives_the_same_results_as_appends_one_by_one(
    street: Street, users: tuple[Floats, Floats], large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        _hold_as_large(monkeypatch)
    indexed = 1600 if large else 300
    positions, csi = street(indexed + 900)
    parts = [CsiPart(*pack_csi(some)) for some in np.split(csi, [indexed, indexed + 17, indexed + 600])]
    truth, features = users
    answers = []

    def answer(references: References) -> tuple[Floats, ...]:
        found = references.signals.nearest(features, 40)
        return (*found, *references.index.nearest(truth, 40), first_guess(references, features, *no_fix(USERS)))

    def extended(references: References, part: CsiPart) -> References:
        first = len(references)
        return references.extended(positions[first : first + len(part)], PackedCsi([part]))

    living = References.of(positions[:indexed], PackedCsi(parts[:1]))
    for part in parts[1:]:
        living = extended(living, part)
        answers.append(answer(living))  # readers search in between
    cold = References.of(positions[:indexed].copy(), PackedCsi(parts[:1]))
    for part in parts[1:]:
        cold = extended(cold, part)
    for one, other in zip(answer(cold), answers[-1], strict=True):
        np.testing.assert_array_equal(one, other)
    assert cold.resident_bytes == living.resident_bytes > 8 * len(cold)


def test_fingerprints_appended_far_from_the_others_are_found(street: Street) -> None:
    positions, csi = street(300)
    elsewhere = positions[:50] + np.float32([1000, 0])
    mirrored = csi[:50, ::-1]
    grown = References.of(positions, csi).extended(elsewhere, mirrored)
    features = signal_feature(np.ascontiguousarray(mirrored))
    for coarse in (no_fix(50), fix(elsewhere, 1.0)):
        assert np.median(errors(first_guess(grown, features, *coarse), elsewhere)) < 1.0
    rows = first_neighbourhood(grown, "fused", features, *fix(elsewhere, 1.0), 8)
    assert (rows >= 300).mean() > 0.99


def test_features_of_many_appended_fingerprints_may_be_computed_on_demand(
    street: Street, users: tuple[Floats, Floats], monkeypatch: pytest.MonkeyPatch
) -> None:
    positions, csi = street(700)
    features = users[1]
    guess = first_guess(_grown(positions, csi, 300, 400), features, *no_fix(USERS))
    monkeypatch.setattr("reference_db.references._MOST_FEATURES_HELD", 350)
    np.testing.assert_array_equal(first_guess(_grown(positions, csi, 300, 400), features, *no_fix(USERS)), guess)
