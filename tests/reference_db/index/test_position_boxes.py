import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reference_db.index.position_boxes import PositionBoxes
from tests.reference_db.index.distance_errors import Floats, check_nearest, check_within, exact_distances


def _crowds(n: int, random: np.random.Generator) -> NDArray[np.float64]:
    centres = random.uniform(-3000, 3000, (5, 2))
    return centres[random.integers(0, 5, n)] + random.normal(0, 0.5, (n, 2))


def _outliers(n: int, random: np.random.Generator) -> NDArray[np.float64]:
    places = random.uniform(0, 60, (n, 2))
    places[:: max(1, n // 5)] = random.uniform(-1e5, 1e5, (len(places[:: max(1, n // 5)]), 2))
    return places


TOWNS = {
    "even": lambda n, random: random.uniform(-300, 300, (n, 2)),
    "crowds": _crowds,
    "copies": lambda n, random: random.integers(0, 5, (n, 2)).astype(float),
    "one place": lambda n, random: np.full((n, 2), 40.0),
    "a street": lambda n, random: np.stack([np.full(n, 5.0), random.uniform(0, 5000, n)], axis=1),
    "an oblique street": lambda n, random: random.uniform(0, 3000, (n, 1)) * [1.0, 0.7],
    "a ring": lambda n, random: 50 * np.exp(1j * random.uniform(0, 7, n)).view(float).reshape(-1, 2),
    "a survey grid": lambda n, random: np.stack(np.divmod(np.arange(n), 40), axis=1) * 0.5,
    "outliers": _outliers,
}


def _town(kind: str, n: int, origin: float, seed: int) -> Floats:
    places: NDArray[np.float64] = TOWNS[kind](n, np.random.default_rng(seed))
    return (places + np.array([origin, -origin])).astype(np.float32)


def _centres(positions: Floats, random: np.random.Generator) -> Floats:
    """Centres on positions, between them, and far outside."""
    some = positions[random.integers(0, len(positions), 6)]
    some[2:4] += random.normal(0, 5, (2, 2))
    some[4:] += np.float32([[9e4, 0], [-2e3, 5e4]])
    return some


@pytest.mark.parametrize("kind", TOWNS)
@given(size=st.integers(1, 6000), share=st.floats(0, 1), origin=st.sampled_from([0.0, 5e4]), seed=st.integers(0, 2**32))
@settings(max_examples=settings.default.max_examples // 8)  # each makes whole indices
def test_the_nearest_equal_brute_force_for_every_distribution(
    kind: str, size: int, share: float, origin: float, seed: int
) -> None:
    positions = _town(kind, size, origin, seed)
    centres = _centres(positions, np.random.default_rng(seed))
    boxes, everything = PositionBoxes(positions), exact_distances(positions, centres)
    for n in {1, min(64, size), max(1, round(share * size)), size}:
        indices, squared = boxes.nearest(centres, n)
        check_nearest(everything, indices, np.sqrt(squared))


@pytest.mark.parametrize("kind", TOWNS)
@given(size=st.integers(1, 6000), radius=st.floats(0, 2e5), seed=st.integers(0, 2**32))
@settings(max_examples=settings.default.max_examples // 8)  # each makes whole indices
def test_all_within_a_radius_are_found_in_ascending_order(kind: str, size: int, radius: float, seed: int) -> None:
    positions = _town(kind, size, 0.0, seed)
    boxes = PositionBoxes(positions)
    centres = _centres(positions, np.random.default_rng(seed))
    for centre, away in zip(centres, exact_distances(positions, centres), strict=True):
        for limit in (radius, radius / 1e3):
            found, one_of = boxes.within(centre, limit)
            assert one_of == 1
            check_within(away, limit, found)


def test_a_radius_is_inclusive() -> None:
    positions = _town("a survey grid", 3000, 0.0, 0)
    centre = np.float32([5.0, 7.0])
    found, _ = PositionBoxes(positions).within(centre, 2.5)  # 1.5, 2.0, 2.5
    np.testing.assert_array_equal(found, np.flatnonzero(exact_distances(positions, centre[None])[0] <= 2.5))
    assert exact_distances(positions[found], centre[None]).max() == 2.5


def test_many_positions_are_sampled_evenly_and_few_are_all_returned() -> None:
    positions = _town("even", 40_000, 0.0, 0)
    boxes, centre = PositionBoxes(positions), np.zeros(2, np.float32)
    for radius in (60.0, 200.0, 1e4):
        everybody, (some, one_of) = boxes.within(centre, radius)[0], boxes.within(centre, radius, most=400)
        assert one_of == pytest.approx(len(everybody) / len(some), rel=0.05)
        assert set(some.tolist()) <= set(everybody.tolist())
        assert (np.diff(some) > 0).all()
        assert 150 < len(some) <= 400
        quarter = [len(those[(positions[those] > 0).all(axis=1)]) / len(those) for those in (everybody, some)]
        assert quarter[1] == pytest.approx(quarter[0], abs=0.06)
    few, _ = boxes.within(centre, 10.0)
    assert 10 < len(few) < 400
    np.testing.assert_array_equal(boxes.within(centre, 10.0, most=400)[0], few)


@pytest.mark.parametrize("kind", TOWNS)
def test_a_search_for_a_few_opens_few_boxes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    positions = _town(kind, 60_000, 0.0, 0)
    boxes, opened = PositionBoxes(positions), []
    open_some = boxes._squared

    def counted(some: NDArray[np.int64], *rest: Floats) -> Floats:
        opened.append(len(some))
        return open_some(some, *rest)

    monkeypatch.setattr(boxes, "_squared", counted)
    for centre in positions[::6000]:
        opened.clear()
        boxes.nearest(centre[None], 64)
        assert 0 < sum(opened) <= 16  # of 128
