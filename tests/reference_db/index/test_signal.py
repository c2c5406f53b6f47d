from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from reference_db import SignalIndex, TooFewFingerprints, signal_feature
from reference_db.index.signal_features import SignalFeatures

Floats = NDArray[np.float32]
Street = Callable[..., tuple[Floats, NDArray[np.complex64]]]


def _features(n: int, seed: int = 0) -> Floats:
    """Features float32 `[n, 80]` with two halves of unit norm, like those of `signal_feature`."""
    halves = np.random.default_rng(seed).uniform(size=(n, 2, 40))
    return (halves / np.linalg.norm(halves, axis=2, keepdims=True)).astype(np.float32).reshape(n, 80)


def _distances(references: Floats, features: Floats, trust: float) -> NDArray[np.float64]:
    squared = np.square(features[:, None].astype(np.float64) - references[None])
    return np.sqrt((1 - trust) * squared[..., :40].sum(axis=2) + trust * squared[..., 40:].sum(axis=2))


@pytest.mark.parametrize("trust", [0.0, 0.3, 1.0])
def test_it_agrees_with_brute_force(trust: float) -> None:
    references, features = _features(500), _features(30, seed=1)
    indices, distances = SignalIndex(references, trust).nearest(features, 7)
    everything = _distances(references, features, trust)
    assert (indices.dtype, distances.dtype) == (np.int64, np.float32)
    np.testing.assert_allclose(distances, np.sort(everything, axis=1)[:, :7], atol=1e-3)
    np.testing.assert_allclose(distances, np.take_along_axis(everything, indices, axis=1), atol=1e-3)


def test_principal_components_of_a_large_cell_keep_its_distances() -> None:
    """Uses features on a manifold, like those of a street: far fewer degrees of freedom than numbers."""
    ways = np.random.default_rng(3).uniform(size=(12, 600))
    places, users = (np.random.default_rng(seed).uniform(size=(n, 12)) ** 2 for seed, n in ((4, 3000), (5, 40)))

    def features(weights: NDArray[np.float64]) -> Floats:
        halves = (weights @ ways).reshape(-1, 2, 300)
        return (halves / np.linalg.norm(halves, axis=2, keepdims=True)).astype(np.float32).reshape(-1, 600)

    references, asked = features(places), features(users)
    indices, distances = SignalIndex(references, 0.5).nearest(asked, 1)
    everything = np.sqrt(0.5 * np.stack([np.square(one.astype(np.float64) - references).sum(axis=1) for one in asked]))
    np.testing.assert_allclose(distances[:, 0], everything.min(axis=1), rtol=0.05, atol=2e-3)
    chosen = np.take_along_axis(everything, indices, axis=1)[:, 0]
    np.testing.assert_allclose(chosen, everything.min(axis=1), rtol=0.05, atol=2e-3)


def test_a_result_does_not_depend_on_the_other_queries() -> None:
    index, features = SignalIndex(_features(500)), _features(200, seed=1)
    allowed, rows = np.random.default_rng(2).uniform(size=(200, 500)) < 0.5, np.arange(500)
    for (indices, distances), alone in (
        (index.nearest(features, 5), index.nearest(features[-1:], 5)),
        (index.nearest_of(rows, allowed, features, 5), index.nearest_of(rows, allowed[-1:], features[-1:], 5)),
    ):
        np.testing.assert_array_equal(indices[-1:], alone[0])
        np.testing.assert_allclose(distances[-1:], alone[1], rtol=1e-4)


def test_approximate_search_of_a_large_cell_misses_few(street: Street) -> None:
    _, csi = street(9000)
    references, asked = SignalFeatures(csi), signal_feature(street(40, seed=1)[1])
    index = SignalIndex(references, 0.3)
    indices, distances = index.nearest(asked, 33)
    everybody = np.arange(len(index))
    expected, unlike = index.nearest_of(everybody, np.ones((40, 9000), np.bool_), asked, 33)
    assert np.mean([len(set(some) & set(those)) / 33 for some, those in zip(indices, expected, strict=True)]) > 0.98
    np.testing.assert_allclose(distances[:, 0], unlike[:, 0], rtol=0.01)
    exact = np.sqrt(np.square(np.sqrt([0.7, 0.3]).repeat(256) * (asked[0] - references[expected[0]])).sum(axis=1))
    np.testing.assert_allclose(unlike[0], exact, atol=0.01)


@pytest.mark.parametrize("candidates", [np.arange(100), np.arange(3, 95, 2)])
def test_each_row_gets_only_allowed_candidates(candidates: NDArray[np.int64]) -> None:
    references, features = _features(100), _features(50, seed=1)
    allowed = np.random.default_rng(2).uniform(size=(50, len(candidates))) < 0.3
    indices, distances = SignalIndex(references, 0.5).nearest_of(candidates, allowed, features, 5)
    permitted = np.zeros((50, 100), np.bool_)
    permitted[:, candidates] = allowed
    assert np.take_along_axis(permitted, indices, axis=1).all()
    everything = np.where(permitted, _distances(references, features, 0.5), np.inf)
    np.testing.assert_allclose(distances, np.sort(everything, axis=1)[:, :5], atol=1e-3)


def test_allowing_fewer_than_k_is_refused() -> None:
    allowed = np.ones((2, 20), np.bool_)
    allowed[1, 3:] = False
    with pytest.raises(TooFewFingerprints) as caught:
        SignalIndex(_features(20)).nearest_of(np.arange(20), allowed, _features(2, seed=1), 4)
    assert (caught.value.wanted, caught.value.available) == (4, 3)


def test_a_fingerprint_is_most_similar_to_itself() -> None:
    references = _features(100)
    indices, distances = SignalIndex(references).nearest(references, 1)
    np.testing.assert_array_equal(indices[:, 0], np.arange(100))
    np.testing.assert_allclose(distances, 0, atol=1e-2)


def test_a_k_beyond_the_size_is_refused_with_both_numbers() -> None:
    with pytest.raises(TooFewFingerprints) as caught:
        SignalIndex(_features(5)).nearest(_features(1), 6)
    assert (caught.value.wanted, caught.value.available) == (6, 5)


def test_no_queries_give_empty_results() -> None:
    index, none = SignalIndex(_features(5)), _features(0)
    for indices, distances in (
        index.nearest(none, 2),
        index.nearest_of(np.arange(5), np.empty((0, 5), np.bool_), none, 2),
    ):
        assert indices.shape == distances.shape == (0, 2)


@pytest.mark.parametrize("features", [np.full((1, 80), np.nan), np.zeros(80), np.zeros((1, 82))])
def test_malformed_features_are_refused(features: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="features must be"):
        SignalIndex(_features(5)).nearest(features.astype(np.float32), 1)


def test_arguments_out_of_range_are_refused() -> None:
    index = SignalIndex(_features(5))
    with pytest.raises(ValueError, match="at least 1"):
        index.nearest(_features(1), 0)
    with pytest.raises(ValueError, match="allowed has shape"):
        index.nearest_of(np.arange(5), np.ones((1, 6), np.bool_), _features(1), 1)
    with pytest.raises(ValueError, match="even D"):
        SignalIndex(_features(5)[:, :-1])
    with pytest.raises(ValueError, match="delay_weight"):
        SignalIndex(_features(5), 1.5)


@pytest.mark.parametrize("appended", [0, 1, 80, 5000])
def test_appended_fingerprints_are_found_like_the_others(appended: int) -> None:
    references, features = _features(500 + appended), _features(30, seed=1)
    index = SignalIndex(references[:500], 0.3)
    index = index.extended(references[500 : 500 + appended // 2]).extended(references[500 + appended // 2 :])
    assert (len(index), index.delay_weight) == (500 + appended, 0.3)
    everything = _distances(references, features, 0.3)
    everybody = np.arange(len(index))
    for indices, distances in (
        index.nearest(features, 7),
        index.nearest_of(everybody, np.ones((30, len(index)), np.bool_), features, 7),
        index.nearest_of(everybody[:-1], np.ones((30, len(index) - 1), np.bool_), features, 7),
    ):
        np.testing.assert_allclose(distances, np.take_along_axis(everything, indices, axis=1), atol=1e-3)
    indices, distances = index.nearest(features, 7)
    np.testing.assert_allclose(distances, np.sort(everything, axis=1)[:, :7], atol=1e-3)


def test_malformed_features_are_not_appended() -> None:
    index = SignalIndex(_features(5))
    for features in (np.full((1, 80), np.nan, np.float32), np.zeros((1, 82), np.float32)):
        with pytest.raises(ValueError, match="features must be"):
            index.extended(features)
