"""The updates benchmark in a small form, on the shipped model."""

from pathlib import Path

import pytest

from benchmarks.serving.generator import NoCompiler, build
from benchmarks.serving.served_models import shipped
from benchmarks.updates.latency import Latency, Phase, measure_latency
from benchmarks.updates.table import markdown
from benchmarks.updates.visibility import Moments, Visibility, measure_visibility


@pytest.fixture(autouse=True)
def short_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINGERPOST_CALIBRATION_SAMPLES", "20")
    monkeypatch.setenv("FINGERPOST_CALIBRATION_SIGMAS_M", "[1.0]")
    monkeypatch.setenv("FINGERPOST_FOLLOW_PERIOD_S", "0.2")


def test_users_send_requests_before_during_and_after_updates(tmp_path: Path) -> None:
    try:
        generator = build(tmp_path)
    except NoCompiler as error:
        pytest.skip(str(error))
    database = tmp_path / "database"
    database.mkdir()
    latency = measure_latency(generator, "directory", database, shipped().folder, 2, 1.0, tmp_path)
    assert [phase.name for phase in latency.phases] == ["before", "during", "after"]
    assert 0 < latency.updates_p50 <= latency.updates_most
    for phase in latency.phases:
        assert sum(phase.statuses.values()) == phase.requests > 0
        assert 0 < phase.p50 <= phase.p99 <= phase.most


def test_appends_become_visible_on_both_replicas(tmp_path: Path) -> None:
    database = tmp_path / "database"
    database.mkdir()
    visibility = measure_visibility("directory", database, shipped().folder, 400, 50, 2)
    assert len(visibility.appends) == 2
    for moments in visibility.appends:
        assert moments.acknowledged > 0
        assert moments.here > 0
        assert moments.there > 0


def test_the_table_says_how_much_slower_users_are_served_during_updates() -> None:
    phases = [
        Phase(name, 10.0, 1000, 0.002, p99, 0.02, 0.03, {"200": 990, "503": 10})
        for name, p99 in (("before", 0.010), ("during", 0.012), ("after", 0.010))
    ]
    latency = Latency("directory", 100.0, 2000, 60, 0.5, 1.5, phases)
    visibility = Visibility("Redis", 100_000, 1000, [Moments(1.0, 1.1, 1.2), Moments(2.0, 2.1, 2.2)])
    text = markdown("2026-01-01", "python -m benchmarks.updates", False, {"CPU": "one"}, [latency], [visibility])
    assert "p99 during the updates is 1.20 times p99 before and after" in text
    assert "| directory | during (10 s) | 1,000 | 2.0 | 12.0 | 20.0 | 30.0 | 990 x 200, 10 x 503 |" in text
    assert "| Redis | visible on a second replica | 2.20 | 2.20 |" in text
