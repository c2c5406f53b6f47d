from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.artifact.channel_transform import ChannelTransform
from models.mateformer.conditions import (
    ALIKE_1M,
    GNSS_1M,
    GNSS_10M,
    NO_GNSS,
    PAPER_FIX,
    REGION_M,
    STREET_1M,
    USERS_1M,
    Condition,
    find_conditions,
)
from models.mateformer.designs import find_design
from models.mateformer.evaluation import Draws, Ellipses, Located, locate_cell
from models.mateformer.locators import Positions
from models.mateformer.pooling import best_knn
from models.mateformer.recipe import MateformerRecipe
from models.radio.cells import RadioCell, load_cell
from reference_db.knn import FIX_SHARES, VARIANTS

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def cell(mateformer_recipe: MateformerRecipe) -> RadioCell:
    return load_cell(DATA / "etoile-0900.paths.safetensors", mateformer_recipe.radio)


class Centroid:
    """Answers the mean position of the neighbourhood, and a circle. Its features are the CSI."""

    def describe(self, channel: ChannelTransform, csi: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(csi).reshape(len(csi), -1).view(np.float32)

    def locate(self, features_known, positions_known, sigmas_known, features, coarse, accuracy) -> Positions:
        positions = positions_known.mean(axis=1, keepdims=True)
        return Positions(positions, np.broadcast_to(np.eye(2, dtype=np.float32), (*positions.shape, 2)))


class Spy(Centroid):
    """Keeps what it was asked."""

    def __init__(self) -> None:
        self.channels: list[ChannelTransform] = []
        self.known, self.positions_known, self.sigmas_known, self.asked, self.coarse, self.accuracy = (
            [] for _ in range(6)
        )

    def describe(self, channel: ChannelTransform, csi: np.ndarray) -> np.ndarray:
        self.channels.append(channel)
        return super().describe(channel, csi)

    def locate(self, *inputs: np.ndarray) -> Positions:
        kept = (self.known, self.positions_known, self.sigmas_known, self.asked, self.coarse, self.accuracy)
        for some, array in zip(kept, inputs, strict=True):
            some.append(array)
        return super().locate(*inputs)

    def shown(self) -> set[tuple[float, float]]:
        return {tuple(position) for some in self.positions_known for position in some.reshape(-1, 2).tolist()}


def located(
    cell: RadioCell, recipe: MateformerRecipe, *conditions: Condition, by: Centroid | None = None, **words
) -> dict[Condition, Located]:
    filled = [condition.complete_from(recipe) for condition in conditions]
    base = find_design("base", recipe)
    return locate_cell(by or Centroid(), cell, base, filled, recipe.cells.references, **words)


def snapshots(features: list[np.ndarray]) -> set[bytes]:
    return {one.tobytes() for some in features for one in some.reshape(-1, some.shape[-1])}


def test_only_users_after_the_references_are_located_and_all_of_them(
    cell: RadioCell, mateformer_recipe: MateformerRecipe
) -> None:
    result = located(cell, mateformer_recipe, GNSS_1M, NO_GNSS)
    held_out = len(cell.positions) - mateformer_recipe.cells.references
    for one in result.values():
        assert all(len(errors) == held_out for errors in one.errors.values())
        np.testing.assert_array_equal(one.line_of_sight, cell.line_of_sight[mateformer_recipe.cells.references :])


@pytest.mark.parametrize(
    "condition", [GNSS_1M, NO_GNSS, replace(NO_GNSS, mode="random"), replace(GNSS_1M, mode="signal")]
)
def test_no_held_out_user_ever_serves_as_a_reference(
    cell: RadioCell, mateformer_recipe: MateformerRecipe, condition: Condition
) -> None:
    held_out = {tuple(position) for position in cell.positions[mateformer_recipe.cells.references :].tolist()}
    spy = Spy()
    located(cell, mateformer_recipe, condition, by=spy)
    assert spy.shown()
    assert not held_out & spy.shown()


REGION, REGION_NO_GNSS = find_conditions(["region", "region_no_gnss"])


@pytest.mark.parametrize(
    "condition",
    [REGION, REGION_NO_GNSS, replace(REGION_NO_GNSS, mode="random"), replace(REGION, mode="signal")],
    ids=["fix", "no fix", "random", "signal"],
)
def test_no_reference_of_a_users_own_region_is_ever_shown(
    cell: RadioCell, mateformer_recipe: MateformerRecipe, condition: Condition
) -> None:
    users = cell.positions[mateformer_recipe.cells.references :]
    spy = Spy()
    located(cell, mateformer_recipe, condition, by=spy)
    assert len(spy.positions_known) == mateformer_recipe.retrieval.passes
    for shown in spy.positions_known:
        assert shown.shape == (len(users), mateformer_recipe.retrieval.neighbourhood_size, 2)
        elsewhere = np.floor(shown / REGION_M) != np.floor(users / REGION_M)[:, None]
        assert elsewhere.any(axis=2).all()
    assert len(spy.shown()) > 50  # the references of one user's region serve the others


@pytest.mark.parametrize("condition", [REGION, REGION_NO_GNSS], ids=["fix", "no fix"])
def test_the_rivals_do_not_have_the_references_of_a_users_own_region_either(
    cell: RadioCell, mateformer_recipe: MateformerRecipe, condition: Condition
) -> None:
    held = mateformer_recipe.cells.references
    rows = np.r_[0:held, 0:40]  # each user is the twin of a reference
    twins = replace(cell, csi=cell.csi[rows], positions=cell.positions[rows], line_of_sight=cell.line_of_sight[rows])
    (everywhere,) = located(twins, mateformer_recipe, replace(condition, region=None)).values()
    (elsewhere,) = located(twins, mateformer_recipe, condition).values()
    squares = np.floor(twins.positions / REGION_M)
    apart = np.linalg.norm(twins.positions[held:, None] - twins.positions[:held], axis=2)
    apart[(squares[held:, None] == squares[:held]).all(axis=2)] = np.inf
    single = [name for name in elsewhere.errors if " k=1 " in name and not name.endswith("% fix")]
    assert len(single) == 4 * (1 if condition.gnss is None else 3)
    for name in single:
        assert everywhere.errors[name].max() < 1e-3
        assert (elsewhere.errors[name] >= apart.min(axis=1) - 1e-3).all()


def test_a_sparser_cell_has_fewer_references(cell: RadioCell, mateformer_recipe: MateformerRecipe) -> None:
    spy = Spy()
    located(cell, mateformer_recipe, replace(NO_GNSS, mode="random", references=40), by=spy)
    assert 16 < len(spy.shown()) <= 40


def test_the_neighbourhood_has_the_size_asked_for(cell: RadioCell, mateformer_recipe: MateformerRecipe) -> None:
    spy = Spy()
    located(cell, mateformer_recipe, replace(GNSS_1M, neighbours=23, rivals=False), by=spy)
    assert {some.shape[1] for some in spy.positions_known} == {23}


def test_every_pass_gets_the_coarse_position_if_there_is_one(
    cell: RadioCell, mateformer_recipe: MateformerRecipe
) -> None:
    spy = Spy()
    located(cell, mateformer_recipe, GNSS_10M, by=spy)
    assert (spy.accuracy[0] == 10.0).all()
    np.testing.assert_array_equal(spy.coarse[1], spy.coarse[0])
    off = spy.coarse[0][:, 0] - cell.positions[mateformer_recipe.cells.references :][: len(spy.coarse[0])]
    assert 5 < off.std() < 15
    spy = Spy()
    located(cell, mateformer_recipe, NO_GNSS, by=spy)
    assert np.isinf(spy.accuracy[0]).all()
    assert np.isfinite(spy.coarse[0]).all()


def test_the_second_pass_retrieves_around_the_first_answer(
    cell: RadioCell, mateformer_recipe: MateformerRecipe
) -> None:
    """A locator that always answers one far corner must be shown that corner's fingerprints next."""
    corner = cell.positions[: mateformer_recipe.cells.references].max(axis=0)

    class Stubborn(Spy):
        def locate(self, *inputs: np.ndarray) -> Positions:
            found = super().locate(*inputs)
            return Positions(np.broadcast_to(corner, found.positions.shape), found.covariances)

    spy = Stubborn()
    located(cell, mateformer_recipe, GNSS_1M, by=spy)
    first, second = (some.mean(axis=1) for some in spy.positions_known[:2])
    assert np.linalg.norm(second - corner, axis=1).max() < np.linalg.norm(first - corner, axis=1).mean()
    np.testing.assert_allclose(second, np.broadcast_to(second[0], second.shape), atol=1e-4)


def test_every_pass_is_reported_and_counted(cell: RadioCell, mateformer_recipe: MateformerRecipe) -> None:
    done: list[int] = []
    condition = replace(GNSS_1M, passes=3)
    (one,) = located(cell, mateformer_recipe, condition, progress=done.append).values()
    errors = one.errors
    assert {who for who in errors if who.startswith("mateformer")} == {
        "mateformer",
        "mateformer, pass 1",
        "mateformer, pass 2",
    }
    assert sum(done) == 3 * len(errors["mateformer"])


def test_the_error_of_the_fix_scales_with_its_sigma(cell: RadioCell, mateformer_recipe: MateformerRecipe) -> None:
    found = located(cell, mateformer_recipe, GNSS_1M, GNSS_10M, NO_GNSS)
    one, ten = (found[fix.complete_from(mateformer_recipe)].errors["gnss"] for fix in (GNSS_1M, GNSS_10M))
    assert one.mean() == pytest.approx(np.sqrt(np.pi / 2), rel=0.25)  # mean of a Rayleigh distance, 50 users
    np.testing.assert_allclose(ten, 10 * one, rtol=1e-3)
    assert "gnss" not in found[NO_GNSS.complete_from(mateformer_recipe)].errors


def test_a_bad_radio_impairs_references_and_users(cell: RadioCell, mateformer_recipe: MateformerRecipe) -> None:
    dead = STREET_1M.radio.model_copy(update={"dead_antennas": 1})
    spy = Spy()
    located(cell, mateformer_recipe, replace(STREET_1M, radio=dead), by=spy)
    each = [some.reshape(-1, *cell.csi.shape[1:], 2) for some in (spy.known[0], spy.asked[0])]
    silent = [np.flatnonzero(np.square(some).sum(axis=(0, 2, 3)) == 0) for some in each]
    assert len(silent[0]) == 1
    np.testing.assert_array_equal(*silent)


def test_knn_gets_the_same_impaired_csi(cell: RadioCell, mateformer_recipe: MateformerRecipe) -> None:
    noisy = replace(NO_GNSS, radio=STREET_1M.radio.model_copy(update={"snr_db": -20.0}))
    found = located(cell, mateformer_recipe, NO_GNSS, noisy)
    clean, drowned = (found[condition.complete_from(mateformer_recipe)].errors for condition in (NO_GNSS, noisy))
    assert drowned[best_knn(drowned)].mean() > 2 * clean[best_knn(clean)].mean()


def test_bad_radios_of_users_do_not_impair_surveyed_references(
    cell: RadioCell, mateformer_recipe: MateformerRecipe
) -> None:
    spy = Spy()
    radio = STREET_1M.radio.model_copy(update={"snr_db": 0.0})
    located(cell, mateformer_recipe, replace(NO_GNSS, radio=radio, surveyed=True, mode="random", rivals=False), by=spy)
    references, users = np.split(Centroid().describe(None, cell.csi), [mateformer_recipe.cells.references])
    assert snapshots(spy.known) <= snapshots([references])
    assert not snapshots(spy.asked) & snapshots([users])


def test_references_degraded_alike_keep_their_power_and_lose_their_clock(
    cell: RadioCell, mateformer_recipe: MateformerRecipe
) -> None:
    spy = Spy()
    located(cell, mateformer_recipe, replace(ALIKE_1M, mode="random", passes=1), by=spy)
    clean = Centroid().describe(None, cell.csi[: mateformer_recipe.cells.references])
    assert not snapshots(spy.known) & snapshots([clean])
    shown = np.concatenate([some.reshape(-1, clean.shape[1]) for some in spy.known])
    powers, kept = (np.square(some).sum(axis=1) for some in (shown, clean))
    np.testing.assert_allclose(np.abs(powers[:, None] / kept - 1).min(axis=1), 0.0, atol=1e-4)
    assert len(snapshots(spy.known)) <= len(clean)  # each fingerprint has one offset, wherever it is used


@pytest.mark.parametrize(
    ("condition", "survey", "users"),
    [
        (GNSS_1M, 0.0, 0.0),
        (STREET_1M, 20e-9 / 3**0.5, 20e-9 / 3**0.5),
        (USERS_1M, 0.0, 20e-9 / 3**0.5),
        (ALIKE_1M, 20e-9 / 3**0.5, 20e-9 / 3**0.5),
        (replace(STREET_1M, timing_stated=False), None, None),
    ],
)
def test_the_model_is_told_the_timing_of_survey_and_users(
    cell: RadioCell,
    mateformer_recipe: MateformerRecipe,
    condition: Condition,
    survey: float | None,
    users: float | None,
) -> None:
    spy = Spy()
    located(cell, mateformer_recipe, condition, by=spy, users=3)
    told = {channel.description.tobytes() for channel in spy.channels}
    assert told == {spy.channels[0].with_sto(survey, users).description.tobytes()}


def test_wrong_labels_are_told_and_shown_to_the_rivals_too(
    cell: RadioCell, mateformer_recipe: MateformerRecipe
) -> None:
    spy = Spy()
    (wrong,) = located(cell, mateformer_recipe, replace(GNSS_1M, label_sigma=3.0), by=spy).values()
    (right,) = located(cell, mateformer_recipe, GNSS_1M).values()
    assert {float(one) for some in spy.sigmas_known for one in some.ravel()} == {3.0}
    true = {tuple(position) for position in cell.positions.tolist()}
    assert not spy.shown() & true
    assert wrong.errors[best_knn(wrong.errors)].mean() > right.errors[best_knn(right.errors)].mean()


@pytest.mark.parametrize(("layout", "lines"), [("centre line", 1), ("pavements", 2)])
def test_a_drive_test_has_references_on_lines_along_the_street(
    cell: RadioCell, mateformer_recipe: MateformerRecipe, layout: str, lines: int
) -> None:
    spy = Spy()
    located(cell, mateformer_recipe, replace(NO_GNSS, layout=layout, mode="random", neighbours=24), by=spy)
    shown = np.array(sorted(spy.shown()))
    assert 24 <= len(shown) < 100
    _, axes = np.linalg.eigh(np.cov(cell.positions[: mateformer_recipe.cells.references].T))
    across = np.sort((shown - np.median(cell.positions, axis=0)) @ axes[:, 0])
    assert (np.diff(across) > 2.0).sum() == lines - 1


def test_every_kind_of_fix_has_errors_of_its_own() -> None:
    drawn = [Draws.of(f"etoile-{number:04d}", 0, 5000).fix_errors for number in range(40)]
    pooled = {kind: np.concatenate([one[kind] for one in drawn]) for kind in drawn[0]}
    for kind in ("gaussian", "correlated", "uniform"):
        assert pooled[kind].std() == pytest.approx(1.0, rel=0.1)
    assert np.abs(pooled["uniform"]).max() <= 3**0.5 + 1e-6
    assert (np.abs(pooled["heavy-tailed"]) > 4).mean() > 20 * (np.abs(pooled["gaussian"]) > 4).mean()
    common = {kind: np.std([one[kind].mean(0) for one in drawn]) for kind in pooled}
    assert common["correlated"] == pytest.approx(0.5**0.5, rel=0.25)
    assert common["gaussian"] < 0.03


def test_a_fix_is_off_by_the_errors_of_its_kind(cell: RadioCell, mateformer_recipe: MateformerRecipe) -> None:
    spy = Spy()
    located(cell, mateformer_recipe, replace(GNSS_1M, gnss=PAPER_FIX, fixes="uniform", passes=1), by=spy)
    off = np.concatenate(spy.coarse)[:, 0] - cell.positions[mateformer_recipe.cells.references :]
    assert 0.9 < np.abs(off).max() <= 1.0 + 1e-5


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
    for condition, one in together.items():
        alone = located(cell, mateformer_recipe, condition)[condition]
        for who in one.errors:
            np.testing.assert_array_equal(one.errors[who], alone.errors[who])


def test_fewer_users_are_the_first_ones(cell: RadioCell, mateformer_recipe: MateformerRecipe) -> None:
    (everyone,) = located(cell, mateformer_recipe, STREET_1M).values()
    (some,) = located(cell, mateformer_recipe, STREET_1M, users=7).values()
    for who in some.errors:
        np.testing.assert_allclose(some.errors[who], everyone.errors[who][:7], atol=1e-4)


def test_the_best_knn_is_the_one_with_the_smallest_mean(cell: RadioCell, mateformer_recipe: MateformerRecipe) -> None:
    (one,) = located(cell, mateformer_recipe, GNSS_1M).values()
    errors = one.errors
    knn = {name: found.mean() for name, found in errors.items() if name.startswith("knn")}
    assert knn[best_knn(errors)] == min(knn.values())
    assert len(knn) == 3 * len(VARIANTS) * (1 + len(FIX_SHARES))


def test_a_condition_without_rivals_measures_none(cell: RadioCell, mateformer_recipe: MateformerRecipe) -> None:
    (one,) = located(cell, mateformer_recipe, replace(GNSS_1M, rivals=False), bound=bound_of_a_metre).values()
    assert best_knn(one.errors) is None
    assert not {"gnss", "bound"} & one.errors.keys()


def bound_of_a_metre(condition: Condition, rows: np.ndarray) -> np.ndarray:
    return np.ones(len(rows), np.float32)


def test_the_bound_of_the_located_users_stands_beside_their_errors(
    cell: RadioCell, mateformer_recipe: MateformerRecipe
) -> None:
    asked: list[np.ndarray] = []

    def bound(condition: Condition, rows: np.ndarray) -> np.ndarray:
        asked.append(rows)
        return bound_of_a_metre(condition, rows)

    (one,) = located(cell, mateformer_recipe, GNSS_1M, users=5, bound=bound).values()
    assert one.errors["bound"].tolist() == [1.0] * 5
    held = mateformer_recipe.cells.references
    assert asked[0].tolist() == list(range(held, held + 5))


def test_an_ellipse_holds_the_truth_up_to_its_95_percent_radius() -> None:
    covariances = np.tile(np.array([[4.0, 0.0], [0.0, 1.0]], np.float32), (2, 1, 1))
    located_at = np.array([[2.0, 0.0], [0.0, 2.5]], np.float32)
    ellipses = Ellipses.of(located_at, covariances, np.zeros((2, 2), np.float32))
    np.testing.assert_allclose(ellipses.squared, [1.0, 6.25])
    np.testing.assert_allclose(ellipses.area, np.pi * 5.991 * 2.0)
