"""The report on several processes behind one port. `python -m benchmarks.workers --quick` tries the benchmark."""

from benchmarks.serving.campaign import Half
from benchmarks.workers import FULL, Round, _alternately, _arguments, _command, markdown


def test_services_alternate_so_that_drift_hits_all_alike() -> None:
    assert list(_alternately([1, 2, 4], 3)) == [1, 2, 4, 4, 2, 1, 1, 2, 4]


def test_each_service_has_so_many_workers() -> None:
    counts, plan, result = _arguments(["--workers", "1,3", "--repetitions", "2", "--quick"])
    assert (counts, plan.repetitions, result.parent.name) == ([1, 3], 2, "bench")
    assert _command(result, 3).words[-2:] == ("--workers", "3")


def test_the_report_has_a_column_for_each_service() -> None:
    def reached(sustained: float) -> Round:
        return Round(0.004, sustained, 2 * sustained, Half(50.0, 100, 0.005, 0.011, 0.012, 0.006, 3 * 2**20))

    report = markdown({1: [reached(100.0), reached(120.0), reached(90.0)], 2: [reached(180.0)]}, FULL)
    assert "|  | 1 process | 2 processes |" in report
    assert "| users/s sustained at p99 ≤ 20 ms | 100 (90-120) | 180 (180-180) |" in report
    assert "| p99 at 50 users/s, ms | 11.0 (11.0-11.0) | 11.0 (11.0-11.0) |" in report
    assert "| memory of all processes, MiB | 3 (3-3) | 3 (3-3) |" in report
