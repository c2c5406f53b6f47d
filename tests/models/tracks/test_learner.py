from pathlib import Path

import numpy as np
import pytest
import torch

from models.tracks.evaluation import choose_motion, locate_tracks, time_tracks
from models.tracks.learner import TrackLearner, draw_tracks
from models.tracks.network import TrackFormer
from models.tracks.recipe import TracksRecipe
from tests.models.tracks.synthetic import STREAMS, draw_walked

CPU = torch.device("cpu")


@pytest.fixture
def recipe(tracks_recipe: dict) -> TracksRecipe:
    return TracksRecipe.model_validate(tracks_recipe | {"model": {**tracks_recipe["model"], "streams": STREAMS}})


def test_drawn_tracks_have_ascending_snapshots_of_one_walk() -> None:
    for seed in range(20):
        rows, snapshots = draw_tracks(5, 16, np.random.default_rng(seed))
        assert rows.shape == (16,)
        assert 1 <= snapshots.shape[1] <= 10
        assert (np.diff(snapshots, axis=1) > 0).all()
        assert snapshots.min() >= 0
        assert snapshots.max() <= 9


def test_the_motion_that_fits_is_chosen() -> None:
    walked = draw_walked(200, np.random.default_rng(1))  # straight walks, about 1 m a gap
    motion = choose_motion(walked)
    assert motion.wander == 0.05
    assert motion.speed <= 2


def test_a_network_learns_what_the_streams_say_and_the_smoother_cannot_know(
    recipe: TracksRecipe, tmp_path: Path
) -> None:
    train, test = draw_walked(300, np.random.default_rng(1)), draw_walked(100, np.random.default_rng(2))
    motion = choose_motion(train)
    optimiser = recipe.optimiser.model_copy(update={"steps": 400, "learning_rate": 3e-3, "average": 0.9})
    recipe = recipe.model_copy(update={"optimiser": optimiser, "tracks": 64})
    learner = TrackLearner(recipe, train, motion, tmp_path, CPU)
    learner.run()
    network = learner.averaged.module.eval()
    assert isinstance(network, TrackFormer)
    located = {("etoile", 900): {"any": test}}
    found = locate_tracks(network, motion, {("etoile", 901): {"any": train}}, located, [5])
    figures = found["tracks"]["sited in sight"]["any"]["5"]
    assert figures["smoother"]["mean"] < 0.8 * figures["alone"]["mean"]
    assert figures["network"]["mean"] < 0.8 * figures["smoother"]["mean"]
    assert figures["inside"] > 0.8
    assert time_tracks(test).shape == (100, 10)


def test_a_stopped_training_continues_as_if_it_had_not_stopped(recipe: TracksRecipe, tmp_path: Path) -> None:
    train = draw_walked(20, np.random.default_rng(1))
    motion = choose_motion(train)
    whole, stopped = (TrackLearner(recipe, train, motion, tmp_path / name, CPU) for name in ("whole", "stopped"))
    whole.run()
    stopped.run(until=2)
    resumed = TrackLearner(recipe, train, motion, tmp_path / "stopped", CPU)
    resumed.run()
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
