from pathlib import Path

import numpy as np
import pytest

from models.scadf_moe.data import build_corpus
from models.scadf_moe.held_out import PARTS, divide_held_out, draw_tested_unseen, draw_unseen, load_served
from models.scadf_moe.recipe import CertaintyTraining, ScadfMoERecipe


@pytest.fixture(scope="module")
def recipe(scadf_moe_recipe: ScadfMoERecipe) -> ScadfMoERecipe:
    certainty = CertaintyTraining(after=220, trajectories=20, hidden=8, steps=5, learning_rate=1e-2, weight_decay=0.1)
    return scadf_moe_recipe.model_copy(update={"certainty": certainty, "path_features": "served"})


def test_later_users_stay_out_of_the_first_stage(recipe: ScadfMoERecipe, bands: Path) -> None:
    corpus = build_corpus(recipe, bands)
    late = corpus.layout.rows >= 220
    assert 0 < late.sum() < len(late)
    assert corpus.held_out[late].all()
    assert 0.1 < corpus.held_out[~late].mean() < 0.3
    assert not late[corpus.tested].any()
    assert not corpus.held_out[corpus.training.draw(50, np.random.default_rng(1))].any()


def test_trajectories_without_a_trained_point_are_tested_beside_those_with_one_held_out_point(
    scadf_moe_recipe: ScadfMoERecipe, bands: Path
) -> None:
    corpus = build_corpus(scadf_moe_recipe, bands)
    unseen = draw_tested_unseen(scadf_moe_recipe, corpus)
    assert unseen.tested.shape == corpus.tested.shape
    assert unseen.held_out[unseen.tested].all()
    assert not corpus.held_out[corpus.tested].all(axis=1).all()
    places = corpus.layout.positions[unseen.tested]
    assert np.linalg.norm(places - places[:, :1], axis=-1).max() <= scadf_moe_recipe.sampling.radius
    again = draw_tested_unseen(scadf_moe_recipe.model_copy(update={"seed": 8, "fusion": "concat"}), corpus)
    np.testing.assert_array_equal(again.tested, unseen.tested)


def test_no_point_serves_two_purposes_and_none_was_trained_on(recipe: ScadfMoERecipe, bands: Path) -> None:
    corpus = load_served(recipe, bands)
    parts = divide_held_out(corpus)
    assert np.array_equal(sum(part.astype(int) for part in parts.values()), corpus.held_out)
    sizes = [part.sum() for part in parts.values()]
    assert max(sizes) - min(sizes) <= 1
    for name in PARTS:
        for kind in ("measured", "estimated"):
            for drawn in draw_unseen(recipe, corpus, kind, parts[name], 20, name):
                assert parts[name][drawn.users].all()
                centroids = corpus.layout.positions[drawn.users].mean(1)
                np.testing.assert_allclose(drawn.truth[:, -1], centroids, atol=1e-5)


def test_both_sources_of_path_features_are_drawn(recipe: ScadfMoERecipe, bands: Path) -> None:
    corpus = load_served(recipe, bands)
    users = divide_held_out(corpus)["check"]
    measured, estimated = (
        next(draw_unseen(recipe, corpus, kind, users, 20, "check")) for kind in ("measured", "estimated")
    )
    assert np.array_equal(measured.users, estimated.users)
    exact = corpus.layout.path_features[0, measured.users, 0]
    assert 0.3 < np.std(measured.path_features[..., 2] - exact[..., 2]) < 2.0  # metres, a base station's errors
    assert np.abs(estimated.path_features - corpus.layout.path_features[0, measured.users, 1]).max() < 1e-3
