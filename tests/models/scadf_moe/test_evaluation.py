from pathlib import Path

import numpy as np
import pytest
import torch

from models.scadf_moe.data import Corpus, Layout, build_corpus
from models.scadf_moe.evaluation import evaluate_oracle_centroid, evaluate_trajectories, summarise_trajectories
from models.scadf_moe.fusion_rivals import FUSIONS
from models.scadf_moe.learner import place_answers
from models.scadf_moe.recipe import ScadfMoERecipe
from models.scadf_moe.sampling import Trajectories


def test_who_answers_the_true_centroid_for_every_point_is_off_by_the_scatter_of_the_points(
    scadf_moe_recipe: ScadfMoERecipe, bands: Path
) -> None:
    corpus = build_corpus(scadf_moe_recipe, bands)
    errors = evaluate_oracle_centroid(scadf_moe_recipe, corpus)
    assert set(errors) == set(scadf_moe_recipe.test_bands)
    points = corpus.layout.positions[corpus.tested].astype(np.float64)  # [trajectories, vertices, 2]
    summary = summarise_trajectories(errors)["all"]
    assert summary["overall"] == pytest.approx(points.var(axis=1).sum(-1).mean(), rel=1e-3)
    assert summary["centroid"] == pytest.approx(0, abs=1e-4)


def test_no_model_with_one_answer_for_all_points_is_better_than_the_true_centroid(
    scadf_moe_recipe: ScadfMoERecipe, bands: Path
) -> None:
    recipe = scadf_moe_recipe.model_copy(update={"readout": "pooled", "fusion": "full-con"})
    corpus = build_corpus(recipe, bands)
    model = FUSIONS[recipe.fusion](recipe.config())
    place_answers(model, corpus)
    oracle = evaluate_oracle_centroid(recipe, corpus)[6e9].squared.mean(axis=1)
    pooled = evaluate_trajectories(model, recipe, corpus, torch.device("cpu"))[6e9].squared.mean(axis=1)
    assert (pooled > oracle).all()


def test_in_a_densely_sampled_street_that_scatter_is_the_one_of_an_anchor_and_four_points_within_2_m(
    scadf_moe_recipe: ScadfMoERecipe,
) -> None:
    """The anchor at 0 and four points uniform in a circle of radius 2 m: 4 (2 / 5 - 2 / 25) = 1.28 m²."""
    rng = np.random.default_rng(1)
    positions = rng.uniform(-15, 15, (4000, 2)).astype(np.float32)
    everybody, cluster = np.ones(4000, np.bool_), np.zeros(4000, np.int64)
    inside = (np.abs(positions) < 12).all(axis=1)
    trajectories = Trajectories(positions, cluster, everybody, length=5, radius=2.0)
    drawn = trajectories.draw(3000, rng)
    layout = Layout(
        rows=np.arange(4000),
        csi=np.empty((1, 4000, 0, 0), np.complex64),
        path_features=np.empty((1, 4000, 4)),
        line_of_sight=np.ones((1, 4000), np.bool_),
        positions=positions,
        below=np.zeros(4000, np.float32),
    )
    corpus = Corpus(
        layout=layout,
        bands=(6e9,),
        sampled=everybody,
        held_out=~everybody,
        training=trajectories,
        tested=drawn[inside[drawn[:, 0]]],
    )
    summary = summarise_trajectories(evaluate_oracle_centroid(scadf_moe_recipe, corpus))
    assert summary["all"]["overall"] == pytest.approx(1.28, abs=0.05)
