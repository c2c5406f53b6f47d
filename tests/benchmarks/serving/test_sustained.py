import pytest

from benchmarks.serving.sustained import highest_rate


class Machine:
    """Keeps up with rates up to `limit`; counts the trials."""

    def __init__(self, limit: float, flukes: int = 0) -> None:
        self.limit, self.flukes, self.tried = limit, flukes, 0

    def __call__(self, rate: float) -> float:
        self.tried += 1
        if self.flukes and rate <= self.limit:
            self.flukes -= 1
            return 1.5
        return rate / self.limit


@pytest.mark.parametrize("limit", [3.0, 77.0, 90.0, 4321.0])
@pytest.mark.parametrize("start", [1.0, 50.0, 5000.0])
def test_the_limit_is_found_to_five_per_cent_from_below(limit: float, start: float) -> None:
    found = highest_rate(Machine(limit), start, most=10_000, trials=60)
    assert limit / 1.05 <= found <= limit


@pytest.mark.parametrize("limit", [50.0, 88.0, 101.0, 300.0])
def test_a_search_from_near_by_takes_few_trials(limit: float) -> None:
    machine = Machine(limit)
    found = highest_rate(machine, start=100.0, most=10_000, trials=20, step=1.12, precision=1.03)
    assert limit / 1.03 <= found <= limit
    assert machine.tried <= 18


def test_after_the_last_trial_the_highest_passing_rate_is_the_answer() -> None:
    machine = Machine(1000.0)
    assert highest_rate(machine, start=10.0, most=10_000, trials=5) == 160.0
    assert machine.tried == 5


def test_a_rate_that_fails_by_far_gets_no_second_chance() -> None:
    # 1600, 800 and 400 once, 200 three times, then 100.
    assert highest_rate(Machine(100.0), start=1600.0, most=10_000, trials=7) == 100.0


@pytest.mark.parametrize("flukes", [1, 2])
def test_noise_does_not_fail_a_rate(flukes: int) -> None:
    assert highest_rate(Machine(100.0, flukes=flukes), start=60.0, most=10_000, trials=60) > 95


def test_a_server_that_keeps_up_with_no_rate_sustains_0() -> None:
    assert highest_rate(Machine(1e-9), start=40.0, most=10_000, trials=60) == 0


def test_no_rate_above_the_maximum_is_tried() -> None:
    assert highest_rate(Machine(1e9), start=40.0, most=300.0, trials=60) == 300.0
