import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from models.mateformer.data import (
    LINE_WIDTH_M,
    PAVEMENTS_M,
    Drawn,
    View,
    build_view,
    build_views,
    draw_coarse_positions,
    draw_neighbourhoods,
    draw_radio,
)
from models.mateformer.recipe import Batch, Fixes, MateformerRecipe, Views
from models.radio.cells import load_cell
from models.radio.front_end import Radio
from models.radio.path_table import PathTable
from reference_db.cell import AntennaArray
from tests.models.one_path import describe

DATA = Path(__file__).parents[1] / "data"
BATCH = Batch(
    neighbourhoods=20,
    known=(8, 16),
    to_infer=5,
    coarse_sigma=(0.3, 3.0),
    thinning=2.0,
    stray=0.0,
    lines=0.0,
    mislabelled=0.0,
    label_sigma=1.0,
)
POSITIONS = torch.randn((40, 50, 2), generator=torch.Generator().manual_seed(1)) * 30
ANY = Views(each=1, own=0.0)


@pytest.fixture(scope="module")
def two_views(mateformer_recipe: MateformerRecipe) -> list[View]:
    """Two cells a kilometre apart, 2,000 users each on 60 m squares, without a signal."""
    rng = np.random.default_rng(0)
    radio = mateformer_recipe.radio.model_copy(update={"array": AntennaArray(rows=1, columns=1), "subcarriers": 2})
    views = []
    for west in (0, 1000):
        positions = (rng.uniform(0, 60, (2000, 2)) + west).astype(np.float32)
        csi = np.ones((len(positions), 1, 2), np.complex64)
        views.append(build_view(csi, positions, radio, radio.carrier_frequency))
    return views


def draw(views: list[View], seed: int, **changes: object) -> list[Drawn]:
    return draw_neighbourhoods(views, BATCH.model_copy(update=changes), np.random.default_rng(seed))


def places(drawn: Drawn) -> np.ndarray:
    return drawn.view.positions[np.concatenate([drawn.known, drawn.to_infer])]


# Views.


def test_every_cell_is_seen_by_the_recipes_radio_first_and_by_others(
    mateformer_recipe: MateformerRecipe, table: PathTable
) -> None:
    views = mateformer_recipe.views.model_copy(update={"each": 4})
    built = build_views(mateformer_recipe.model_copy(update={"views": views}), DATA)
    users = int(table.reached.sum())
    assert [len(view.index) for view in built] == [users] * 4
    own = mateformer_recipe.radio
    assert [view.channel.array == own.array and view.bandwidth == own.bandwidth for view in built[:2]] == [True] * 2
    assert len({view.channel.key for view in built}) >= 3  # the two own views differ by their yaw only
    for view in built:
        np.testing.assert_array_equal(view.positions, built[0].positions)
        assert view.csi.shape[:2] == (users, view.channel.array.antennas)
        assert np.square(view.csi.astype(float)).sum(-1).mean() == pytest.approx(1.0, rel=1e-2)
    # Another yaw is another array response to the same paths: other phases, not another city.
    first, turned = (view.csi.astype(float) for view in built[:2])
    assert np.abs(first - turned).max() > 0.1 * np.abs(first).max()
    levels = [np.log(np.square(csi).sum((1, 2, 3))) for csi in (first, turned)]
    assert np.corrcoef(*levels)[0, 1] > 0.9


def test_all_views_can_have_the_recipes_radio(mateformer_recipe: MateformerRecipe) -> None:
    views = mateformer_recipe.views.model_copy(update={"each": 3, "own": 1.0})
    built = build_views(mateformer_recipe.model_copy(update={"views": views}), DATA)
    assert {view.channel.array for view in built} == {mateformer_recipe.radio.array}
    assert len({view.csi.tobytes() for view in built}) == 3  # at other yaws


def test_the_same_recipe_builds_the_same_views(mateformer_recipe: MateformerRecipe) -> None:
    once, again = (build_views(mateformer_recipe, DATA) for _ in range(2))
    assert [view.channel.key for view in once] == [view.channel.key for view in again]
    other = build_views(mateformer_recipe.model_copy(update={"seed": 8}), DATA)
    assert [view.channel.key for view in once] != [view.channel.key for view in other]


def test_a_view_in_half_precision_has_the_features_of_its_csi(mateformer_recipe: MateformerRecipe) -> None:
    view = build_views(mateformer_recipe, DATA)[0]
    stored = view.csi.astype(np.float32).view(np.complex64)[..., 0]
    cell = load_cell(DATA / "etoile-0900.paths.safetensors", mateformer_recipe.radio)
    exact = cell.csi / np.float32(np.sqrt(np.square(np.abs(cell.csi)).mean()))
    apart = np.abs(describe(view.channel, stored) - describe(view.channel, exact))
    # The fourth root is steep where a bin barely rises above the noise.
    assert (apart > 0.05).mean() < 1e-4
    assert apart.max() < 0.2


def test_drawn_radios_keep_to_the_bounds_and_differ() -> None:
    rng = np.random.default_rng(1)
    drawn = [draw_radio(ANY, rng) for _ in range(400)]
    for carrier, radio in drawn:
        assert radio.array.antennas <= ANY.antennas
        assert ANY.bandwidth[0] <= radio.bandwidth <= ANY.bandwidth[1]
        assert ANY.carrier_frequency[0] <= carrier <= ANY.carrier_frequency[1]
        assert radio.subcarriers / radio.bandwidth >= ANY.period
        assert radio.wavefronts == "spherical"
    arrays = [radio.array for _, radio in drawn]
    assert {array.columns for array in arrays} == set(ANY.columns)
    assert {array.rows for array in arrays} == set(ANY.rows)
    assert {array.polarisations for array in arrays} == {1, 2}
    halves = Counter(array.spacing == 0.5 for array in arrays)
    assert 140 < halves[True] < 260
    assert {radio.pattern for _, radio in drawn} == {"isotropic", "tr38901"}


def test_the_shipped_recipe_trains_within_the_ranges_that_it_states() -> None:
    recipe = MateformerRecipe.load(Path(__file__).parents[3] / "models" / "mateformer" / "recipes" / "mateformer.yaml")
    rng = np.random.default_rng(2)
    drawn: list[tuple[float, Radio]] = [draw_radio(recipe.views, rng) for _ in range(300)]
    for carrier, radio in [*drawn, (recipe.radio.carrier_frequency, recipe.radio)]:
        stated = {
            "antennas": radio.array.antennas,
            "rows": radio.array.rows,
            "columns": radio.array.columns,
            "polarisations": radio.array.polarisations,
            "spacing": radio.array.spacing,
            "subcarriers": radio.subcarriers,
            "bandwidth": radio.bandwidth,
            "carrier_frequency": carrier,
        }
        for name, value in stated.items():
            allowed = getattr(recipe.ranges, name)
            assert allowed.minimum <= value <= allowed.maximum, name


# Neighbourhoods.


def test_no_user_is_both_known_and_to_be_inferred(two_views: list[View]) -> None:
    for seed in range(10):
        drawn = draw(two_views, seed, lines=0.5)
        assert len(drawn) == 20
        sizes = {len(one.known) for one in drawn}
        assert len(sizes) == 1
        assert BATCH.known[0] <= sizes.pop() <= BATCH.known[1]
        for one in drawn:
            assert len(one.to_infer) == 5
            rows = np.concatenate([one.known, one.to_infer])
            assert len(set(rows)) == len(rows)


def test_a_neighbourhood_stays_in_one_view_and_is_compact(two_views: list[View]) -> None:
    drawn = draw(two_views, 3)
    assert len({id(one.view) for one in drawn}) == 2
    for one in drawn:
        assert np.ptp(places(one), axis=0).max() < 20


def test_neighbourhoods_that_are_not_thinned_are_the_nearest_users(two_views: list[View]) -> None:
    for one in draw(two_views, 5, thinning=1.0):
        here = places(one)
        around, _ = one.view.index.nearest(here.mean(0, keepdims=True).astype(np.float32), 4 * len(here))
        assert set(np.concatenate([one.known, one.to_infer])) <= set(around[0])


def test_thinned_neighbourhoods_are_those_of_sparser_surveys(two_views: list[View]) -> None:
    def areas(thinning: float) -> np.ndarray:
        return np.array(
            [np.prod(np.std(places(one), axis=0)) / len(places(one)) for one in draw(two_views, 5, thinning=thinning)]
        )

    assert np.median(areas(20.0)) > 2 * np.median(areas(1.0))
    assert areas(20.0).max() < 40 * np.median(areas(1.0))


def test_the_same_generator_draws_the_same_batch(two_views: list[View]) -> None:
    for one, again in zip(draw(two_views, 9, lines=0.5), draw(two_views, 9, lines=0.5), strict=True):
        np.testing.assert_array_equal(one.known, again.known)
        np.testing.assert_array_equal(one.to_infer, again.to_infer)


def test_strays_stand_at_the_rim_of_their_references(two_views: list[View]) -> None:
    def centre_to_rim(stray: float) -> float:
        drawn = draw(two_views, 4, stray=stray, thinning=1.0)
        offsets = [one.view.positions[one.to_infer] - one.view.positions[one.known].mean(0) for one in drawn]
        return float(np.linalg.norm(offsets, axis=-1).mean())

    assert centre_to_rim(1.0) > 1.3 * centre_to_rim(0.0)


def test_a_drive_test_stands_on_one_line_or_on_two_parallel_ones(two_views: list[View]) -> None:
    single = double = 0
    for one in draw(two_views, 6, lines=1.0, neighbourhoods=60):
        known = one.view.positions[one.known].astype(float)
        off, apart = distance_from_two_lines(known)
        if distance_from_line(known) < 1.1 * LINE_WIDTH_M:
            single += 1
        elif off < 1.1 * LINE_WIDTH_M and PAVEMENTS_M[0] - 1 < apart < PAVEMENTS_M[1] + 1:
            double += 1
    assert single > 20
    assert double > 12
    # The rim of the square cuts some lines short: users beyond the width complete these neighbourhoods.
    assert single + double > 50


def project(positions: np.ndarray) -> list[np.ndarray]:
    """The positions across lines of every direction, sorted."""
    angles = np.linspace(0, math.pi, 721)
    return [np.sort(positions @ np.array([-math.sin(angle), math.cos(angle)])) for angle in angles]


def distance_from_line(positions: np.ndarray) -> float:
    """The largest distance from the best line."""
    return min(float(np.ptp(across)) / 2 for across in project(positions))


def distance_from_two_lines(positions: np.ndarray) -> tuple[float, float]:
    """The largest distance from the best two parallel lines, and the distance between these."""
    found = []
    for across in project(positions):
        one, other = np.split(across, [int(np.diff(across).argmax()) + 1])
        found.append((max(np.ptp(one), np.ptp(other)) / 2, other.mean() - one.mean()))
    off, apart = min(found)
    return float(off), float(apart)


def test_the_users_of_a_drive_test_stand_around_it(two_views: list[View]) -> None:
    for one in draw(two_views, 7, lines=1.0):
        known, users = (one.view.positions[rows] for rows in (one.known, one.to_infer))
        nearest = np.linalg.norm(users[:, None] - known, axis=-1).min(1)
        assert nearest.max() < 3 + PAVEMENTS_M[1] + 5


# Coarse positions.


def fixes(known: float, accuracy: tuple[float, float], urban: float = 0.0) -> Fixes:
    return Fixes(known=known, accuracy=accuracy, urban=urban)


def test_a_coarse_position_is_off_by_its_stated_accuracy() -> None:
    coarse, accuracy = draw_coarse_positions(POSITIONS, fixes(0.7, (0.5, 20.0)), torch.Generator().manual_seed(2))
    known = accuracy.isfinite()
    assert float(known.float().mean()) == pytest.approx(0.7, abs=0.03)
    assert accuracy[known].min() >= 0.5
    assert accuracy[known].max() <= 20.0
    assert float(accuracy[known].log().mean()) == pytest.approx(math.log(10) / 2, abs=0.1)
    sigmas = (coarse - POSITIONS)[known] / accuracy[known][:, None]
    assert float(sigmas.std()) == pytest.approx(1.0, abs=0.05)


def test_a_user_without_a_coarse_position_has_the_origin_and_an_infinite_error() -> None:
    coarse, accuracy = draw_coarse_positions(POSITIONS, fixes(0.5, (1.0, 2.0)), torch.Generator().manual_seed(3))
    assert (coarse[accuracy.isinf()] == 0).all()
    _, infinite = draw_coarse_positions(POSITIONS, fixes(0.0, (1.0, 2.0)), torch.Generator())
    assert infinite.isinf().all()


def test_urban_errors_have_heavy_tails_the_stated_variance_and_half_of_it_in_common() -> None:
    b, q = 4000, 12
    coarse, _ = draw_coarse_positions(
        torch.zeros(b, q, 2), fixes(1.0, (2.0, 2.000001), urban=1.0), torch.Generator().manual_seed(4)
    )
    errors = (coarse / 2.0).numpy()
    # The fourth moment of the tails is infinite, so the variance of a sample says little: compare the distributions.
    apart = (errors[:, 0] - errors[:, 1])[:, 0]  # the common part cancels
    rng = np.random.default_rng(5)
    tails = stats.t.rvs(3, size=(2, 400_000), random_state=rng) / math.sqrt(3)  # variance 1 each
    expected = (tails[0] - tails[1]) / math.sqrt(2)
    np.testing.assert_allclose(
        np.quantile(apart, [0.1, 0.25, 0.75, 0.9]), np.quantile(expected, [0.1, 0.25, 0.75, 0.9]), atol=0.05
    )
    whole = (tails[0] + rng.normal(size=400_000)) / math.sqrt(2)
    np.testing.assert_allclose(
        np.quantile(errors[:, 0, 0], [0.02, 0.1, 0.9, 0.98]), np.quantile(whole, [0.02, 0.1, 0.9, 0.98]), atol=0.12
    )
    assert stats.spearmanr(errors[:, 0, 0], errors[:, 1, 0]).statistic == pytest.approx(0.55, abs=0.1)
    plain, _ = draw_coarse_positions(
        torch.zeros(b, q, 2), fixes(1.0, (2.0, 2.000001)), torch.Generator().manual_seed(4)
    )
    far = [(part.norm(dim=-1) > 3.5 * 2).float().mean() for part in (coarse, plain)]
    assert far[0] > 2 * far[1]
    assert abs(np.corrcoef(plain[:, 0, 0], plain[:, 1, 0])[0, 1]) < 0.05


def test_only_a_share_of_the_neighbourhoods_is_urban() -> None:
    coarse, _ = draw_coarse_positions(
        torch.zeros(4000, 12, 2), fixes(1.0, (1.0, 1.000001), urban=0.25), torch.Generator().manual_seed(6)
    )
    # The mean over users keeps the common half of the variance in a quarter of the neighbourhoods.
    common = coarse.mean(1)[:, 0].numpy()
    gaussian, urban = (stats.norm(0, math.sqrt(v)).cdf(-1.0) for v in (1 / 12, 0.5 + 0.5 / 12))
    assert (np.abs(common) > 1.0).mean() == pytest.approx(2 * (0.75 * gaussian + 0.25 * urban), abs=0.012)
