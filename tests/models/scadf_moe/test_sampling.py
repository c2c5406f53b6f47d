import numpy as np
import pytest

from models.radio.path_table import PathTable
from models.scadf_moe.sampling import NoTrajectories, Trajectories, cluster, hold_out, hold_out_regions


@pytest.fixture
def flocks() -> np.ndarray:
    """float32 [60, 2]: six flocks of ten users a metre wide, 20 m from each other, in random order"""
    rng = np.random.default_rng(1)
    centres = 20.0 * np.array([[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]])
    users = centres.repeat(10, axis=0) + rng.uniform(-0.5, 0.5, (60, 2))
    return rng.permutation(users).astype(np.float32)


def flock_of(users: np.ndarray) -> np.ndarray:
    return np.rint(users / 20) @ [1, 3]


def sizes_by_brute_force(users: np.ndarray, radius: float) -> np.ndarray:
    joined = np.linalg.norm(users[:, None] - users, axis=-1) <= radius
    for _ in range(6):
        joined = joined @ joined
    return joined.sum(axis=1)[joined.argmax(axis=1) == np.arange(len(users))]


@pytest.mark.parametrize("enough", [1, 2, 5, 8, 10])
def test_the_radius_is_the_smallest_at_which_half_of_the_clusters_are_large_enough(
    flocks: np.ndarray, enough: int
) -> None:
    clusters = cluster(flocks, enough, most=2.0)
    sizes = np.bincount(clusters.labels)
    np.testing.assert_array_equal(np.sort(sizes), np.sort(sizes_by_brute_force(flocks, clusters.radius * (1 + 1e-6))))
    assert (sizes >= enough).mean() >= 0.5
    if clusters.radius > 0:
        assert (sizes_by_brute_force(flocks, clusters.radius * (1 - 1e-6)) >= enough).mean() < 0.5
    for label in range(len(sizes)):
        assert len(set(flock_of(flocks[clusters.labels == label]))) == 1


def test_labels_number_the_clusters_by_their_first_users(flocks: np.ndarray) -> None:
    labels = cluster(flocks, enough=10, most=2.0).labels
    firsts = [int(np.flatnonzero(labels == label)[0]) for label in range(labels.max() + 1)]
    assert firsts == sorted(firsts)


def test_too_few_users_nearby_are_an_error(flocks: np.ndarray) -> None:
    with pytest.raises(NoTrajectories):
        cluster(flocks, enough=11, most=2.0)
    labels = np.zeros(60, np.int64)
    with pytest.raises(NoTrajectories):
        Trajectories(flocks, labels, np.ones(60, np.bool_), length=11, radius=2.0)


def test_points_are_held_out_inside_every_cluster(flocks: np.ndarray) -> None:
    labels = flock_of(flocks).astype(np.int64)
    held = hold_out(labels, 0.3, np.random.default_rng(2))
    assert {int(held[labels == label].sum()) for label in range(6)} <= {3, 4}
    shares = [hold_out(labels, 0.25, np.random.default_rng(seed)).mean() for seed in range(200)]
    assert np.mean(shares) == pytest.approx(0.25, abs=0.01)


def test_regions_are_held_out_whole(flocks: np.ndarray) -> None:
    held = hold_out_regions(flocks + 5, 20.0, 1 / 3, np.random.default_rng(2))  # a flock stands in each square
    of_flock = [held[flock_of(flocks) == flock] for flock in range(6)]
    assert sum(one.all() for one in of_flock) == 2
    assert sum(one.any() for one in of_flock) == 2


def test_regions_that_hold_most_users_are_an_error(flocks: np.ndarray) -> None:
    with pytest.raises(NoTrajectories, match="regions of 100 m are too wide"):
        hold_out_regions(flocks + 5, 100.0, 0.2, np.random.default_rng(2))


def test_a_trajectory_is_short_stays_in_its_cluster_and_repeats_no_user(table: PathTable) -> None:
    positions = table.users[:, :2]
    labels = np.arange(250) % 2  # two clusters, one among the other
    trajectories = Trajectories(positions, labels, np.ones(250, np.bool_), length=3, radius=6.0)
    drawn = trajectories.draw(100, np.random.default_rng(3))
    assert drawn.shape == (100, 3)
    assert (labels[drawn] == labels[drawn[:, :1]]).all()
    assert np.linalg.norm(positions[drawn] - positions[drawn[:, :1]], axis=-1).max() <= 6.0
    assert all(len(set(users)) == 3 for users in drawn.tolist())
    np.testing.assert_array_equal(trajectories.draw(100, np.random.default_rng(3)), drawn)


def test_training_never_draws_a_held_out_point_and_every_test_trajectory_has_one(flocks: np.ndarray) -> None:
    labels = flock_of(flocks).astype(np.int64)
    held = hold_out(labels, 0.3, np.random.default_rng(4))
    seen = Trajectories(flocks, labels, ~held, length=5, radius=2.0).draw(300, np.random.default_rng(5))
    assert not held[seen].any()
    assert len(np.unique(seen)) == (~held).sum()
    everybody = np.ones(60, np.bool_)
    tested = Trajectories(flocks, labels, everybody, length=5, radius=2.0, must=held).draw(
        300, np.random.default_rng(6)
    )
    assert held[tested].any(axis=1).all()
    assert not held[tested].all(axis=1).any()
