from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.mateformer.conditions import GNSS_1M, GNSS_10M, NO_GNSS, STREET_1M, Condition
from models.mateformer.evaluation import CellErrors, best_knn, locate_cell
from models.mateformer.locators import Locate
from models.mateformer.recipe import MateformerRecipe
from models.radio.cells import RadioCell, load_cell
from reference_db.knn import FIX_SHARES, VARIANTS

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def cell(mateformer_recipe: MateformerRecipe) -> RadioCell:
    return load_cell(DATA / "etoile-0900.paths.safetensors", mateformer_recipe.radio)


def centroid(csi_known, positions_known, csi, coarse, accuracy) -> np.ndarray:
    return positions_known.mean(axis=1, keepdims=True)


def located(
    cell: RadioCell, recipe: MateformerRecipe, *conditions: Condition, by: Locate = centroid, **words
) -> CellErrors:
    filled = [condition.complete_from(recipe) for condition in conditions]
    return locate_cell(by, cell, filled, recipe.cells.references, recipe.radio.bandwidth, **words)


class Spy:
    """Answers the centroid and keeps what it was asked."""

    def __init__(self) -> None:
        self.csi_known, self.positions_known, self.csi = [], [], []

    def __call__(self, csi_known, positions_known, csi, coarse, accuracy) -> np.ndarray:
        self.csi_known.append(csi_known)
        self.positions_known.append(positions_known)
        self.csi.append(csi)
        return centroid(csi_known, positions_known, csi, coarse, accuracy)


def test_only_users_after_the_references_are_located_and_all_of_them(
    cell: RadioCell, mateformer_recipe: MateformerRecipe
) -> None:
    result = located(cell, mateformer_recipe, GNSS_1M, NO_GNSS)
    held_out = len(cell.positions) - mateformer_recipe.cells.references
    assert all(len(errors) == held_out for who in result.errors.values() for errors in who.values())
    np.testing.assert_array_equal(result.line_of_sight, cell.line_of_sight[mateformer_recipe.cells.references :])


@pytest.mark.parametrize(
    "condition", [GNSS_1M, NO_GNSS, replace(NO_GNSS, mode="random"), replace(GNSS_1M, mode="signal")]
)
def test_no_held_out_user_ever_serves_as_a_reference(
    cell: RadioCell, mateformer_recipe: MateformerRecipe, condition: Condition
) -> None:
    held_out = {tuple(position) for position in cell.positions[mateformer_recipe.cells.references :].tolist()}
    spy = Spy()
    located(cell, mateformer_recipe, condition, by=spy)
    shown = {tuple(position) for some in spy.positions_known for position in some.reshape(-1, 2).tolist()}
    assert shown
    assert not held_out & shown


def test_a_sparser_cell_has_fewer_references(cell: RadioCell, mateformer_recipe: MateformerRecipe) -> None:
    spy = Spy()
    located(cell, mateformer_recipe, replace(NO_GNSS, mode="random", references=40), by=spy)
    shown = {tuple(position) for some in spy.positions_known for position in some.reshape(-1, 2).tolist()}
    assert 16 < len(shown) <= 40


def test_the_neighbourhood_has_the_size_asked_for(cell: RadioCell, mateformer_recipe: MateformerRecipe) -> None:
    spy = Spy()
    located(cell, mateformer_recipe, replace(GNSS_1M, neighbours=23, rivals=False), by=spy)
    assert {some.shape[1] for some in spy.positions_known} == {23}


def test_every_pass_gets_the_coarse_position_if_there_is_one(
    cell: RadioCell, mateformer_recipe: MateformerRecipe
) -> None:
    told: list[tuple[np.ndarray, np.ndarray]] = []

    def listening(csi_known, positions_known, csi, coarse, accuracy) -> np.ndarray:
        told.append((coarse, accuracy))
        return positions_known.mean(axis=1, keepdims=True)

    located(cell, mateformer_recipe, GNSS_10M, by=listening)
    (first, sigma), (second, _) = told[:2]
    assert (sigma == 10.0).all()
    np.testing.assert_array_equal(second, first)
    off = first[:, 0] - cell.positions[mateformer_recipe.cells.references :][: len(first)]
    assert 5 < off.std() < 15
    told.clear()
    located(cell, mateformer_recipe, NO_GNSS, by=listening)
    assert np.isinf(told[0][1]).all()
    assert np.isfinite(told[0][0]).all()


def test_the_second_pass_retrieves_around_the_first_answer(
    cell: RadioCell, mateformer_recipe: MateformerRecipe
) -> None:
    """A locator that always answers one far corner must be shown that corner's fingerprints next."""
    corner = cell.positions[: mateformer_recipe.cells.references].max(axis=0)
    centres: list[np.ndarray] = []

    def stubborn(csi_known, positions_known, csi, coarse, accuracy) -> np.ndarray:
        centres.append(positions_known.mean(axis=1))
        return np.broadcast_to(corner, (len(csi), 1, 2)).copy()

    located(cell, mateformer_recipe, GNSS_1M, by=stubborn)
    first, second = centres[0], centres[1]
    assert np.linalg.norm(second - corner, axis=1).max() < np.linalg.norm(first - corner, axis=1).mean()
    np.testing.assert_allclose(second, np.broadcast_to(second[0], second.shape), atol=1e-4)


def test_every_pass_is_reported_and_counted(cell: RadioCell, mateformer_recipe: MateformerRecipe) -> None:
    done: list[int] = []
    condition = replace(GNSS_1M, passes=3)
    result = located(cell, mateformer_recipe, condition, progress=done.append)
    (errors,) = result.errors.values()
    assert {who for who in errors if who.startswith("mateformer")} == {
        "mateformer",
        "mateformer, pass 1",
        "mateformer, pass 2",
    }
    assert sum(done) == 3 * len(errors["mateformer"])


def test_the_error_of_the_fix_scales_with_its_sigma(cell: RadioCell, mateformer_recipe: MateformerRecipe) -> None:
    errors = located(cell, mateformer_recipe, GNSS_1M, GNSS_10M, NO_GNSS).errors
    one, ten = (errors[condition.complete_from(mateformer_recipe)]["gnss"] for condition in (GNSS_1M, GNSS_10M))
    assert one.mean() == pytest.approx(np.sqrt(np.pi / 2), rel=0.25)  # mean of a Rayleigh distance, 50 users
    np.testing.assert_allclose(ten, 10 * one, rtol=1e-3)
    assert "gnss" not in errors[NO_GNSS.complete_from(mateformer_recipe)]


def test_a_bad_radio_impairs_references_and_users(cell: RadioCell, mateformer_recipe: MateformerRecipe) -> None:
    dead = STREET_1M.radio.model_copy(update={"dead_antennas": 1})
    spy = Spy()
    located(cell, mateformer_recipe, replace(STREET_1M, radio=dead), by=spy)
    power = [np.square(some).sum(axis=(0, 1, 3, 4)) for some in (spy.csi_known[0], spy.csi[0])]  # an antenna
    silent = [np.flatnonzero(each == 0) for each in power]
    assert len(silent[0]) == 1
    np.testing.assert_array_equal(*silent)


def test_knn_gets_the_same_impaired_csi(cell: RadioCell, mateformer_recipe: MateformerRecipe) -> None:
    noisy = replace(NO_GNSS, radio=STREET_1M.radio.model_copy(update={"snr_db": -20.0}))
    errors = located(cell, mateformer_recipe, NO_GNSS, noisy).errors
    clean, drowned = (errors[condition.complete_from(mateformer_recipe)] for condition in (NO_GNSS, noisy))
    assert drowned[best_knn(drowned)].mean() > 2 * clean[best_knn(clean)].mean()


def test_bad_radios_of_users_do_not_impair_surveyed_references(
    cell: RadioCell, mateformer_recipe: MateformerRecipe
) -> None:
    spy = Spy()
    radio = STREET_1M.radio.model_copy(update={"snr_db": 0.0})
    located(cell, mateformer_recipe, replace(NO_GNSS, radio=radio, surveyed=True, mode="random", rivals=False), by=spy)
    clean = {snapshot.tobytes() for snapshot in cell.csi[: mateformer_recipe.cells.references]}
    shown = [snapshot.tobytes() for some in spy.csi_known for snapshot in some.reshape(-1, *some.shape[2:])]
    assert set(shown) <= clean
    users = cell.csi[mateformer_recipe.cells.references :]
    assert not any(
        snapshot.tobytes() in {user.tobytes() for user in users} for snapshot in np.concatenate(spy.csi)[:, 0]
    )


def test_tiles_make_users_near_each_other_share_their_references(
    cell: RadioCell, mateformer_recipe: MateformerRecipe
) -> None:
    def kinds(pitch: float) -> int:
        spy = Spy()
        located(cell, mateformer_recipe, replace(GNSS_1M, pitch=pitch, passes=1, rivals=False), by=spy)
        return len({near.tobytes() for some in spy.positions_known for near in some})

    exact, tiles = kinds(0.0), kinds(30.0)
    assert tiles < exact / 4


def test_conditions_do_not_depend_on_which_others_are_measured(
    cell: RadioCell, mateformer_recipe: MateformerRecipe
) -> None:
    together = located(cell, mateformer_recipe, GNSS_10M, STREET_1M, NO_GNSS, replace(NO_GNSS, mode="random"))
    for condition, errors in together.errors.items():
        alone = located(cell, mateformer_recipe, condition).errors[condition]
        for who in errors:
            np.testing.assert_array_equal(errors[who], alone[who])


def test_fewer_users_are_the_first_ones(cell: RadioCell, mateformer_recipe: MateformerRecipe) -> None:
    (everyone,) = located(cell, mateformer_recipe, STREET_1M).errors.values()
    (some,) = located(cell, mateformer_recipe, STREET_1M, users=7).errors.values()
    for who in some:
        np.testing.assert_allclose(some[who], everyone[who][:7], atol=1e-4)


def test_the_best_knn_is_the_one_with_the_smallest_mean(cell: RadioCell, mateformer_recipe: MateformerRecipe) -> None:
    (errors,) = located(cell, mateformer_recipe, GNSS_1M).errors.values()
    knn = {name: found.mean() for name, found in errors.items() if name.startswith("knn")}
    assert knn[best_knn(errors)] == min(knn.values())
    assert len(knn) == 3 * len(VARIANTS) * (1 + len(FIX_SHARES))


def test_a_condition_without_rivals_measures_none(cell: RadioCell, mateformer_recipe: MateformerRecipe) -> None:
    (errors,) = located(cell, mateformer_recipe, replace(GNSS_1M, rivals=False)).errors.values()
    assert best_knn(errors) is None
    assert "gnss" not in errors
