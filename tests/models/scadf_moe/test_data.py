from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.radio.path_table import PathTable
from models.radio.tracing import band_folder, table_path
from models.scadf_moe.data import OtherUsers, build_corpus, observe_path_features
from models.scadf_moe.path_features import exact_path_features
from models.scadf_moe.recipe import ScadfMoERecipe
from reference_db.path_features import SPEED_OF_LIGHT


def test_the_split_depends_on_the_layout_only(scadf_moe_recipe: ScadfMoERecipe, bands: Path) -> None:
    one = build_corpus(scadf_moe_recipe, bands)
    changes = {
        "seed": 8,
        "path_features": "estimated",
        "train_bands": (6e9,),
        "test_bands": (2.6e9, 6e9),
        "fusion": "concat",
    }
    other = build_corpus(scadf_moe_recipe.model_copy(update=changes), bands)
    np.testing.assert_array_equal(one.held_out, other.held_out)
    np.testing.assert_array_equal(one.tested, other.tested)
    assert one.bands == (2.6e9, 28e9, 6e9)
    assert other.bands == (6e9, 2.6e9)


def test_test_trajectories_have_a_point_that_training_never_draws(
    scadf_moe_recipe: ScadfMoERecipe, bands: Path
) -> None:
    corpus = build_corpus(scadf_moe_recipe, bands)
    drawn = corpus.training.draw(300, np.random.default_rng(1))
    assert corpus.held_out[corpus.tested].any(axis=1).all()
    assert not corpus.held_out[drawn].any()
    assert corpus.held_out.mean() == pytest.approx(0.2, abs=0.02)


def test_no_point_of_a_held_out_region_is_trained_on_and_all_tested_points_are_in_one(
    scadf_moe_recipe: ScadfMoERecipe, bands: Path
) -> None:
    sampling = scadf_moe_recipe.sampling.model_copy(update={"region": 15.0})
    corpus = build_corpus(scadf_moe_recipe.model_copy(update={"sampling": sampling}), bands)
    squares = list(map(tuple, np.floor(corpus.layout.positions / 15).tolist()))
    of_users = {held: {squares[user] for user in np.flatnonzero(corpus.held_out == held)} for held in (False, True)}
    assert of_users[True]
    assert not of_users[True] & of_users[False]
    assert corpus.held_out[corpus.tested].all()
    assert not corpus.held_out[corpus.training.draw(300, np.random.default_rng(1))].any()


def test_each_band_has_its_own_channel_and_gain_and_the_same_geometry(
    scadf_moe_recipe: ScadfMoERecipe, bands: Path, table: PathTable
) -> None:
    layout = build_corpus(scadf_moe_recipe, bands).layout
    np.testing.assert_allclose(layout.csi[0] / layout.csi[1], 28 / 2.6, rtol=1e-3)
    np.testing.assert_allclose(
        layout.path_features[0, :, 3] / layout.path_features[1, :, 3], (28 / 2.6) ** 2, rtol=1e-5
    )
    np.testing.assert_array_equal(layout.path_features[0, :, :3], exact_path_features(table)[table.reached, :3])
    direct = layout.line_of_sight[0]
    length = np.hypot(np.linalg.norm(layout.positions[direct], axis=1), layout.below[direct])
    np.testing.assert_allclose(layout.path_features[0, direct, 2], length, atol=0.01)


def test_estimated_path_features_depend_on_the_csi_only(scadf_moe_recipe: ScadfMoERecipe, bands: Path) -> None:
    layout = build_corpus(scadf_moe_recipe.model_copy(update={"path_features": "estimated"}), bands).layout
    departure, arrival, distance, _ = layout.path_features[0].T
    np.testing.assert_allclose(np.exp(1j * arrival), -np.exp(1j * departure), atol=1e-9)
    assert distance.max() < SPEED_OF_LIGHT * 16 / 50e6


def test_a_model_to_be_served_gets_measured_and_estimated_path_features(
    scadf_moe_recipe: ScadfMoERecipe, bands: Path
) -> None:
    def layout(kind: str) -> np.ndarray:
        return build_corpus(scadf_moe_recipe.model_copy(update={"path_features": kind}), bands).layout.path_features

    both, exact, estimated = layout("served"), layout("exact"), layout("estimated")
    np.testing.assert_array_equal(both[..., 0, :], exact)
    np.testing.assert_array_equal(both[..., 1, :], estimated)
    users = np.arange(120).reshape(40, 3)
    seen = observe_path_features(both[0, users], "served", np.random.default_rng(1))
    of_csi = (seen == estimated[0, users]).all(axis=2)
    assert np.isin(of_csi.sum(axis=1), (0, 3)).all()  # a trajectory's all alike
    assert 5 < of_csi.all(axis=1).sum() < 35


def test_only_measured_path_features_are_noisy() -> None:
    features = np.abs(np.random.default_rng(1).normal(size=(2, 3, 4)))
    for kind, same in (("exact", True), ("estimated", True), ("measured", False)):
        assert np.array_equal(observe_path_features(features, kind, np.random.default_rng(2)), features) == same


def test_bands_of_other_users_are_refused(scadf_moe_recipe: ScadfMoERecipe, table: PathTable, tmp_path: Path) -> None:
    for carrier in (2.6e9, 28e9, 6e9):
        path = table_path(band_folder(tmp_path, carrier), "etoile", 900)
        path.parent.mkdir()
        replace(table, users=table.users + np.float32(carrier == 6e9)).save(path)
    with pytest.raises(OtherUsers, match="6GHz"):
        build_corpus(scadf_moe_recipe, tmp_path)
