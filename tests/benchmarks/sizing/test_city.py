"""The resources of a city, and the table of them in the documentation."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.sizing.city import COLUMNS, Inputs, need

ROOT = Path(__file__).parents[3]
PLAIN = replace(
    Inputs.measured(1, "msgpack", "complex64"),
    cells=1000,
    locations=1000,
    tiles=50,
    hits=1.0,
    load=0.5,
    spare=0.0,
    warm=1000,
    cold=100,
    replica_memory=1e5,
    replica_bytes=100,
    cell_bytes=10,
    frame_bytes=0.8,
    feature_bytes=0,
    request_bytes=125,
    answer_bytes=25,
    link=1e6,
    redis_bytes=20,
    redis_append_bytes=2,
    versions=6,
    redis_memory=15_000,
)


def test_load_sets_the_number_of_replicas() -> None:
    found = need(PLAIN)
    assert (found.replicas, found.bound, found.users_per_s) == (2, "load", 500)
    assert 500 < found.cells_each < 550
    assert (found.cell_memory, found.frame_memory) == (10 * found.cells_each, 40 * found.cells_each)
    assert found.memory_each == 100 + 50 * found.cells_each


def test_features_of_fingerprints_take_part_of_the_memory_for_frames() -> None:
    without, found = need(PLAIN), need(replace(PLAIN, feature_bytes=500))
    assert found.frame_memory == without.frame_memory + 500
    assert found.memory_each == without.memory_each + 500


def test_memory_sets_the_number_of_replicas_for_few_users() -> None:
    found = need(replace(PLAIN, locations=10, replica_memory=100 + 50 * 100))
    assert found.bound in ("memory", "chance")
    assert found.replicas >= 10
    assert found.memory_each <= 100 + 50 * 100


def test_users_without_a_cached_frame_cost_more() -> None:
    assert need(replace(PLAIN, hits=0.5)).replicas == 11  # half at 1,000/s, half at 100/s


@pytest.mark.parametrize("locations", [10, 1000, 50_000])
@pytest.mark.parametrize("spare", [0.0, 0.1, 0.3])
def test_remaining_replicas_hold_all_cells_and_sustain_all_users(locations: int, spare: float) -> None:
    given = replace(PLAIN, locations=locations, spare=spare)
    found = need(given)
    left = max(1, found.replicas * (1 - spare))
    assert left * found.cells_each >= given.cells - 1e-6
    assert left * given.load * given.warm >= given.locations - 1e-6
    assert found.busiest <= given.warm


@pytest.mark.parametrize("replicas", [10, 148, 800])
def test_the_fullest_replica_has_about_as_many_cells_as_a_random_hash_gives(replicas: int) -> None:
    random = np.random.default_rng(0)
    fullest = [np.bincount(random.integers(replicas, size=10_000)).max() for _ in range(100)]
    planned = need(replace(PLAIN, cells=10_000, locations=replicas, warm=20, load=0.05, replica_memory=1e9))
    assert planned.replicas == replicas
    assert np.quantile(fullest, 0.9) <= planned.cells_each <= 1.3 * np.median(fullest)


def test_a_cell_that_fits_in_no_replica_is_an_error() -> None:
    with pytest.raises(ValueError, match="one cell"):
        need(replace(PLAIN, replica_memory=140))
    with pytest.raises(ValueError, match="users of one cell"):
        need(replace(PLAIN, cells=1, locations=2000))


def test_traffic_is_that_of_requests_and_answers() -> None:
    found = need(PLAIN)
    assert (found.requests, found.answers, found.balancers) == (1e6, 2e5, 2)


def test_redis_holds_every_version_once() -> None:
    found = need(PLAIN)
    assert (found.redis_memory, found.redis_nodes) == (30_000, 2)


def test_options_replace_the_measured_inputs() -> None:
    said = ["--cells", "100", "--locations", "5000", "--warm", "1000", "--hits", "1", "--load", "0.5", "--spare", "0"]
    command = [sys.executable, "-m", "benchmarks.sizing", *said]
    text = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    (replicas,) = (line for line in text.splitlines() if line.startswith("| replicas"))
    assert replicas.split(" | ")[1:] == ["10, by load"] * (len(COLUMNS) - 1) + ["10, by load |"]


def test_the_documentation_has_the_current_table() -> None:
    command = [sys.executable, "-m", "benchmarks.sizing"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    _, table = text.strip().split("\n\n")
    assert table in (ROOT / "deploy" / "README.md").read_text()
