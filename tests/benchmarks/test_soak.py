"""A short soak on the shipped model, and the trends that a soak detects."""

import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.soak import memory, run
from benchmarks.soak.__main__ import Report
from benchmarks.soak.memory import Sample, trend_of
from benchmarks.soak.run import Kind, SoakResult, soak
from service.settings import Settings
from tests.redis_servers import GUARD_S


def samples(grown: float = 0.0, files: int = 0) -> list[Sample]:
    """Samples of an hour: 500 MiB after the start-up, peaks during updates, and `grown` MiB and `files` at the end."""
    seconds = np.arange(5.0, 3600.0, 5.0)
    resident = 500 - 300 * np.exp(-seconds / 200) + grown * seconds / 3600
    resident += np.random.default_rng(0).choice([0.0, 3.0, 60.0], len(seconds), p=[0.6, 0.3, 0.1])
    return [
        Sample(float(s), float(mib), 80.0, 25 + int(files * s / 3600), 20, s / 10, int(s))
        for s, mib in zip(seconds, resident, strict=True)
    ]


def report_of(watched: list[Sample], wrong: list[str]) -> Report:
    kinds = [Kind("track", 1234, 5.0, 20.0)]
    found = SoakResult(3595.0, kinds, {"200": 1234}, wrong, 12, 0.1, 0.2, trend_of(watched), watched)
    return Report("2026-01-01", "python -m benchmarks.soak --hours 1", {"CPU": "one"}, found)


def test_peaks_and_a_slow_start_are_flat_and_growth_is_not() -> None:
    assert trend_of(samples()).is_flat
    growing = trend_of(samples(grown=20))
    assert growing.slope == pytest.approx(20, abs=2)
    assert growing.low < growing.slope < growing.high
    assert not growing.is_flat
    assert not trend_of(samples(files=60)).is_flat


def test_the_report_has_verdict_table_samples_and_figure(tmp_path: Path) -> None:
    report = report_of(samples(), [])
    text = report.write(tmp_path)
    assert report.is_good
    assert "Flat." in text
    assert "| track | 1,234 | 5.0 | 20.0 |" in text
    assert len((tmp_path / "soak.csv").read_text().splitlines()) == 1 + len(report.result.samples)
    assert (tmp_path / "soak.png").exists()
    assert not report_of(samples(grown=20), []).is_good
    assert not report_of(samples(), ["track: 500"]).is_good


def test_a_short_soak_gets_no_wrong_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {"append", "invalid", "batch of 16", "metrics", "msgpack", "no fix", "with a fix"}

    def wait(clients: run._Clients, seconds: float) -> None:
        """Until every kind was sent: how long that takes depends on the machine."""
        end = time.monotonic() + 3 * GUARD_S
        while clients.tally.requests <= 100 or not kinds <= set(clients.tally.seconds):
            assert time.monotonic() < end
            if clients._stop.wait(0.1):  # a thread failed
                return
        clients._stop.wait(seconds)

    monkeypatch.setattr(run._Clients, "wait", wait)
    monkeypatch.setattr(memory, "EVERY_S", 0.5)
    monkeypatch.setattr(run, "_CHANGE_EVERY_S", 0.2)
    monkeypatch.setattr(run, "_READS_PER_S", 10.0)
    found = soak(3, Settings().artifact_directory, tmp_path)
    assert found.wrong == []
    assert kinds <= {kind.name for kind in found.kinds}
    assert found.versions > 2
    assert found.error < 0.5
    assert found.samples[-1].requests > 100
