from pathlib import Path

import numpy as np
import pytest

from benchmarks import retrieval
from benchmarks.retrieval import (
    Choice,
    Halves,
    Survey,
    average,
    choose,
    compensate_delay,
    embed_by_artifact,
    find_by_halves,
    find_nearest,
    measure_recall,
    treat,
)
from tests.service.measured_cells import heard_from, measured_cell
from tests.service.tiny_lwlm_artifact import write_tiny_lwlm_artifact

CELL = measured_cell()


def street(points: int, seed: int) -> np.ndarray:
    """Positions `[points, 2]` in front of the base station."""
    return np.random.default_rng(seed).uniform([20, -15], [50, 15], (points, 2)).astype(np.float32)


def seen_at(places: np.ndarray, delays: np.ndarray | None = None) -> np.ndarray:
    late = np.zeros(len(places)) if delays is None else delays
    return np.stack([heard_from(CELL, *place, delay) for place, delay in zip(places.tolist(), late, strict=True)])


def test_recall_is_the_share_of_the_true_neighbours_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "NEAREST", 2)
    positions = np.array([[0, 0], [1, 0], [5, 0], [9, 0]], np.float32)
    recall = measure_recall(np.array([[0, 1], [3, 0], [2, 3]]), np.array([[0.4, 0]] * 3, np.float32), positions)
    np.testing.assert_array_equal(recall, [1.0, 0.5, 0.0])


def test_an_embedding_of_range_and_angle_finds_the_true_neighbours(tmp_path: Path) -> None:
    embed = embed_by_artifact(write_tiny_lwlm_artifact(tmp_path))
    known, users = street(300, 1), street(40, 2)
    survey = Survey(CELL, seen_at(known), known, seen_at(users), users)
    known_vectors, user_vectors = treat(embed(survey.csi, CELL), embed(survey.users, CELL), "whitened")
    voters, power = find_by_halves(survey, Halves(known_vectors, known_vectors), Halves(user_vectors, user_vectors))
    assert measure_recall(voters.rows, users, known).mean() > 0.7
    off = np.linalg.norm(average(voters, known, power) - users, axis=1)
    assert np.median(off) < 1.0


def test_whitening_undoes_a_linear_map_of_the_embedding() -> None:
    random = np.random.default_rng(0)
    known, asked = random.normal(size=(200, 5)).astype(np.float32), random.normal(size=(9, 5)).astype(np.float32)
    mapped = (random.normal(size=(5, 5)) @ np.diag([1, 2, 5, 9, 30])).astype(np.float32)
    plain, mixed = (
        find_nearest(retrieval.squared_distances(b, a)).rows
        for a, b in (treat(known, asked, "whitened"), treat(known @ mapped, asked @ mapped, "whitened"))
    )
    np.testing.assert_array_equal(plain, mixed)


def test_cosines_ignore_the_length_of_an_embedding() -> None:
    random = np.random.default_rng(0)
    known, asked = random.normal(size=(50, 4)).astype(np.float32), random.normal(size=(3, 4)).astype(np.float32)
    for one, other in zip(treat(known, asked, "unit norm"), treat(known, 7 * asked, "unit norm"), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_delay_compensation_hides_a_sampling_time_offset() -> None:
    places = street(5, 3)
    late = compensate_delay(seen_at(places, np.linspace(-2e-8, 2e-8, 5)))
    in_phase = (late * compensate_delay(seen_at(places)).conj()).sum(axis=(1, 2))
    power = np.square(np.abs(late)).sum(axis=(1, 2))
    np.testing.assert_allclose(np.abs(in_phase), power, rtol=1e-4)


@pytest.mark.parametrize("informative", [0, 1])
def test_the_half_that_tells_the_position_is_chosen(informative: int) -> None:
    positions = street(400, 4)
    noise = np.random.default_rng(5).normal(size=positions.shape).astype(np.float32)
    halves = [noise, noise]
    halves[informative] = positions / np.float32(10)
    chosen = choose(Halves(*halves), positions)
    assert isinstance(chosen, Choice)
    assert chosen.weight == float(informative)
