"""The limits that a cell sets by its own fingerprints."""

import numpy as np
import pytest

from reference_db import CellVersion, Fingerprints, signal_feature
from reference_db.retrieval import LeftOut
from service.inference.plausibility import (
    Levels,
    PlausibilityLimits,
    find_implausible_levels,
    level_of,
    measure_limits,
    weigh_fixes,
)
from tests.service.plane_cell import fingerprints_at, make_cell, street, users_at
from tests.service.tiny_cell import version_of

CELL = make_cell("plane")
PLACES = street(400, 1)
ROWS = np.arange(0, 400, 2)


def limits_of(version: CellVersion, rows: np.ndarray) -> PlausibilityLimits:
    return measure_limits(version, rows, LeftOut.alone(rows, len(version)))


def version_with_gains(sigma_db: float) -> CellVersion:
    """Each fingerprint with a gain error of its own, normal, in dB."""
    plain = fingerprints_at(PLACES)
    gains = 10 ** (sigma_db * np.random.default_rng(2).standard_normal(len(PLACES)) / 20)
    csi = (plain.csi * gains[:, None, None]).astype(np.complex64)
    return version_of(CELL, Fingerprints(csi, plain.positions, plain.times, plain.sigmas))


def pairs(csi: np.ndarray) -> np.ndarray:
    return csi.view(np.float32).reshape(*csi.shape, 2)


def refused(version: CellVersion, csi: np.ndarray) -> float:
    """The share of users whose level is refused."""
    limits, nowhere = limits_of(version, ROWS), np.full((len(csi), 2), np.nan, np.float32)
    guess = weigh_fixes(version.references, signal_feature(csi), nowhere, nowhere[:, 0], limits)
    return len(find_implausible_levels(Levels(), version, level_of(pairs(csi)), guess.voters, limits)) / len(csi)


def test_levels_are_the_mean_power_in_db_and_remembered() -> None:
    version = version_with_gains(0.0)
    levels = Levels()
    for rows in (np.array([[3, 5], [5, 7]]), np.array([[7, 3], [9, 9]])):
        power = np.abs(version.csi[rows].astype(np.complex128)) ** 2
        np.testing.assert_allclose(levels.of(version, rows), 10 * np.log10(power.mean(axis=(-2, -1))), atol=1e-3)


def test_a_cell_without_gain_control_tells_20_db_from_none() -> None:
    version, csi = version_with_gains(0.0), users_at(street(200, 5))
    assert refused(version, csi) == 0.0
    for factor in (0.1, 10.0):
        assert refused(version, (csi * factor).astype(np.complex64)) == 1.0


def test_the_limit_follows_the_gain_errors_of_the_fingerprints() -> None:
    version, csi = version_with_gains(15.0), users_at(street(200, 5))
    gains = 10 ** (15 * np.random.default_rng(3).standard_normal(200) / 20)
    assert limits_of(version, ROWS).level_db > limits_of(version_with_gains(0.0), ROWS).level_db
    assert refused(version, (csi * gains[:, None, None]).astype(np.complex64)) < 0.03


@pytest.mark.parametrize(("off", "share"), [(0.0, 0.0), (30.0, 0.9)])
def test_only_a_fix_that_the_signal_contradicts_is_dropped(off: float, share: float) -> None:
    version, places = version_with_gains(0.0), street(200, 6)
    features, accuracy = signal_feature(users_at(places)), np.ones(200, np.float32)
    errors = np.random.default_rng(4).standard_normal((200, 2)) + np.array([off, 0.0])
    guess = weigh_fixes(
        version.references, features, (places + errors).astype(np.float32), accuracy, limits_of(version, ROWS)
    )
    dropped = np.isnan(guess.accuracy)
    assert abs(dropped.mean() - share) <= 0.1
    np.testing.assert_array_equal(np.isnan(guess.coarse).all(axis=1), dropped)
    assert np.isfinite(guess.voters.distances).all()


def test_limits_of_a_cell_with_a_few_remote_fingerprints_can_be_stored() -> None:
    places = np.concatenate([street(90, 1), 40 * street(10, 2)]).astype(np.float32)
    limits = limits_of(version_of(CELL, fingerprints_at(places)), np.arange(100))
    assert np.isfinite([value for value in limits.model_dump().values() if value is not None]).all()


def test_sparse_fingerprints_contradict_no_fix() -> None:
    places = np.stack([np.linspace(30, 70, 40), np.zeros(40)], axis=1).astype(np.float32)
    places[::2, 1] += 200.0  # a few fingerprints in two rows: the k-NN bandwidth is small beside their distances
    places *= 10
    version = version_of(CELL, fingerprints_at(places))
    limits = limits_of(version, np.arange(40))
    features, accuracy = signal_feature(users_at(places)), np.full(40, 0.01, np.float32)
    guess = weigh_fixes(version.references, features, places, accuracy, limits)
    assert np.isfinite(guess.accuracy).all()


@pytest.mark.parametrize(("off", "share"), [(0.0, 0.0), (40.0, 1.0)])
def test_users_beside_a_drive_test_keep_their_fix_unless_it_lies_far_away(off: float, share: float) -> None:
    middle = np.stack([np.linspace(30, 70, 60), np.zeros(60)], axis=1).astype(np.float32)
    version = version_of(CELL, fingerprints_at(middle))
    pavement = np.stack([np.linspace(33, 42, 40), np.full(40, 7.0)], axis=1).astype(np.float32)
    features, accuracy = signal_feature(users_at(pavement)), np.ones(40, np.float32)
    limits = limits_of(version, np.arange(60))
    fixes = pavement + np.float32([0.0, off])
    guess = weigh_fixes(version.references, features, fixes, accuracy, limits)
    assert abs(np.isnan(guess.accuracy).mean() - share) <= 0.1
