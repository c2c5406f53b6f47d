import numpy as np
import pytest
import torch

from models.artifact.smoother import Motion, smooth
from models.artifact.track_numbers import NUMBERS, Described, describe_tracks
from models.tracks.network import TrackConfig, TrackFormer
from models.tracks.walked import Walked
from tests.models.tracks.synthetic import draw_walked

MOTION = Motion(speed=1.0, wander=0.2, trust=1.0)
SMALL = TrackConfig(streams=8, width=16, depth=2, hidden=16, heads=2)


def describe(tracks: Walked, elapsed: np.ndarray) -> Described:
    return describe_tracks(
        tracks.estimates, tracks.covariances, tracks.fixes, tracks.accuracy, elapsed.astype(np.float32), MOTION
    )


def test_an_untrained_network_is_the_smoother() -> None:
    tracks, elapsed = draw_walked(7, np.random.default_rng(0)), np.tile(np.arange(10.0), (7, 1))
    described = describe(tracks, elapsed)
    network = TrackFormer(SMALL)
    found = network(
        torch.from_numpy(tracks.streams).float(),
        *(torch.from_numpy(one) for one in (described.numbers, described.smoothed, described.sigma)),
    )
    expected = smooth(tracks.estimates, tracks.covariances, elapsed, MOTION).positions
    np.testing.assert_allclose(found.position.detach().numpy(), expected, atol=1e-3)
    assert described.numbers.shape == (7, 10, NUMBERS)


@pytest.mark.parametrize("unit", [0.001, 60.0])
def test_the_unit_and_the_origin_of_time_do_not_matter(unit: float) -> None:
    tracks, elapsed = draw_walked(3, np.random.default_rng(0)), np.tile(np.arange(10.0), (3, 1))
    one, other = describe(tracks, elapsed), describe(tracks, unit * (elapsed + 5))
    np.testing.assert_allclose(one.numbers, other.numbers, atol=1e-3)


@pytest.mark.parametrize("count", [1, 2])
def test_short_tracks_are_described_without_a_motion_that_nobody_saw(count: int) -> None:
    tracks = draw_walked(4, np.random.default_rng(0)).cut(count)
    described = describe(tracks, np.tile(np.arange(float(count)), (len(tracks), 1)))
    assert np.isfinite(described.numbers).all()
    if count == 1:
        np.testing.assert_allclose(described.smoothed, tracks.estimates, atol=1e-3)


def test_two_snapshots_at_the_same_time_are_one_place() -> None:
    tracks = draw_walked(4, np.random.default_rng(0)).cut(2)
    described = describe(tracks, np.zeros((len(tracks), 2)))
    assert np.isfinite(described.numbers).all()
    np.testing.assert_allclose(described.smoothed[:, 0], described.smoothed[:, 1], atol=1e-3)


def test_a_fix_counts_only_where_there_is_one() -> None:
    tracks = draw_walked(4, np.random.default_rng(0))
    without = Walked(**{**vars(tracks), "accuracy": np.full_like(tracks.accuracy, np.inf)})
    moved = Walked(**{**vars(without), "fixes": without.fixes + 100})
    elapsed = np.tile(np.arange(10.0), (4, 1))
    np.testing.assert_array_equal(describe(without, elapsed).numbers, describe(moved, elapsed).numbers)
    assert not np.array_equal(describe(tracks, elapsed).numbers, describe(without, elapsed).numbers)
