from dataclasses import replace

import numpy as np
import pytest
import torch

from models.mateformer.conditions import STREET
from models.mateformer.locators import TorchLocator
from models.mateformer.network import Mateformer
from models.mateformer.recipe import MateformerRecipe
from models.radio.path_table import PathTable, take_users
from models.radio.walks import SNAPSHOTS
from models.tracks.walked import Seen, Walked, draw_fixes, draw_turn, locate_walks, observe_walkers
from tests.models.tracks.synthetic import draw_walked


@pytest.fixture(scope="module")
def locator(mateformer_recipe: MateformerRecipe) -> TorchLocator:
    return TorchLocator(Mateformer(mateformer_recipe.config()), torch.device("cpu"))


def locate(locator: TorchLocator, recipe: MateformerRecipe, table: PathTable, seen: Seen, seed: int = 0) -> Walked:
    walks = take_users(table, 200, 240)
    return locate_walks(locator, table, walks, recipe.radio, 150, seen, 24, 2.0, np.random.default_rng(seed))


def test_pieces_of_walks_follow_each_other() -> None:
    walked = draw_walked(3, np.random.default_rng(0))
    pieces = walked.cut(5)
    assert pieces.truth.shape == (6, 5, 2)
    np.testing.assert_array_equal(pieces.truth.reshape(3, 10, 2), walked.truth)
    np.testing.assert_array_equal(pieces.streams.reshape(3, 10, -1), walked.streams)
    assert walked.cut(3).accuracy.shape == (9, 3)  # the tenth snapshot is in no piece
    joined = Walked.join([walked, walked])
    np.testing.assert_array_equal(joined.estimates[3:], walked.estimates)


@pytest.mark.parametrize("common", [0.0, 0.5, 1.0])
def test_fixes_have_the_stated_error_and_share_of_it_that_is_common(common: float) -> None:
    truth = np.zeros((4000, SNAPSHOTS, 2), np.float32)
    fixes = draw_fixes(truth, Seen(STREET, accuracy=3.0, common=common), np.random.default_rng(1))
    assert fixes.std() == pytest.approx(3.0, rel=0.02)
    assert (fixes[:, 0] * fixes[:, 5]).mean() / 9 == pytest.approx(common, abs=0.03)


def test_a_turn_keeps_distances() -> None:
    turns = [draw_turn(np.random.default_rng(seed)) for seed in range(20)]
    for turn in turns:
        np.testing.assert_allclose(turn @ turn.T, np.eye(2), atol=1e-6)
    assert {round(float(np.linalg.det(turn))) for turn in turns} == {-1, 1}


def test_each_snapshot_is_located_alone(
    locator: TorchLocator, mateformer_recipe: MateformerRecipe, table: PathTable
) -> None:
    found = locate(locator, mateformer_recipe, table, Seen(STREET, accuracy=1.0, common=0.5))
    w = len(found)
    assert 0 < w <= 4
    assert found.estimates.shape == found.fixes.shape == (w, SNAPSHOTS, 2)
    assert found.streams.shape == (w, SNAPSHOTS, 2 * mateformer_recipe.config().width)
    assert np.linalg.eigvalsh(found.covariances).min() > 0
    assert np.linalg.norm(found.fixes - found.truth, axis=-1).mean() == pytest.approx(1.25, abs=0.5)
    again = locate(locator, mateformer_recipe, table, Seen(STREET, accuracy=1.0, common=0.5))
    np.testing.assert_array_equal(found.estimates, again.estimates)


def test_without_a_fix_none_is_told(
    locator: TorchLocator, mateformer_recipe: MateformerRecipe, table: PathTable
) -> None:
    found = locate(locator, mateformer_recipe, table, Seen(STREET, accuracy=None))
    assert np.isinf(found.accuracy).all()
    assert not found.fixes.any()


def test_a_turned_street_keeps_its_distances_from_the_base_station(
    locator: TorchLocator, mateformer_recipe: MateformerRecipe, table: PathTable
) -> None:
    plain = locate(locator, mateformer_recipe, table, Seen(STREET, accuracy=None))
    turned = locate(locator, mateformer_recipe, table, Seen(STREET, accuracy=None, turned=True))
    np.testing.assert_allclose(np.linalg.norm(plain.truth, axis=-1), np.linalg.norm(turned.truth, axis=-1), rtol=1e-5)
    assert np.abs(plain.truth - turned.truth).max() > 1


def test_a_walk_with_a_snapshot_that_no_path_reaches_is_left_out(
    mateformer_recipe: MateformerRecipe, table: PathTable
) -> None:
    reached = np.flatnonzero(table.reached)
    first = int(reached[0])
    walks = take_users(table, first, first + 2 * SNAPSHOTS)
    kept = walks.reached.reshape(2, SNAPSHOTS).all(axis=1)
    counts = walks.paths_per_user.copy()
    hidden = replace(walks, offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))
    assert len(observe_walkers(hidden, mateformer_recipe.radio, 0.0).csi) == kept.sum()
