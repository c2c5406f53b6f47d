"""The whole benchmark in its quick form, and the growing cell, on the shipped model."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.serving.campaign import QUICK
from benchmarks.serving.growth import Grown, cost, grow
from benchmarks.serving.report import read_report
from benchmarks.serving.served_models import shipped

ROOT = Path(__file__).parents[3]
PATIENCE_S = 120


def test_the_quick_run_measures_fingerpost_and_writes_table_json_and_picture(generator: Path, tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    words = [sys.executable, "-m", "benchmarks.serving", "--quick", "--rivals", "onnx"]
    ran = subprocess.run(words, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    written = tmp_path / "var" / "bench"
    assert ran.stdout.strip() == (written / "serving.md").read_text().strip()
    assert (written / "serving.png").stat().st_size > 1000
    report = read_report(written / "serving.json")
    assert report.quick
    assert report.notes == []
    (model,) = report.models
    assert [(figures.kind, figures.format) for figures in model.figures] == [
        ("shared", "msgpack"),
        ("shared", "json"),
    ]
    for figures in model.figures:
        half, overload = figures.half, figures.overload
        assert 0 < figures.unloaded_p50 < 5
        assert 0 < half.p50 <= half.p99 <= half.p999
        assert half.cpu_s_per_location > 0
        assert half.memory_bytes > 50 << 20
        # The service refuses what it cannot serve: on any machine no request is lost or hangs.
        assert overload.accepted + overload.refused == overload.requests
    assert {batch.size for batch in model.in_process["onnx"]} >= {1, 128}


def test_a_run_that_is_ended_leaves_no_process_behind(generator: Path, tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    words = [sys.executable, "-m", "benchmarks.serving", "--quick", "--rivals"]
    with (tmp_path / "log").open("w") as log:
        run = subprocess.Popen(words, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, stdout=log, stderr=log)
    started = time.monotonic()
    found: list[psutil.Process] = []
    serving = False
    while not serving:
        assert time.monotonic() < started + PATIENCE_S, (tmp_path / "log").read_text()
        with contextlib.suppress(psutil.NoSuchProcess):
            found = psutil.Process(run.pid).children(recursive=True)
            serving = any("serve" in one.cmdline() for one in found)
        time.sleep(0.05)
    run.terminate()
    assert run.wait(PATIENCE_S) == 128 + signal.SIGTERM
    _, alive = psutil.wait_procs(found, timeout=5)
    assert alive == []


def test_a_growing_cell_is_measured_with_and_without_coarse_positions(generator: Path, tmp_path: Path) -> None:
    rows = list(grow(generator, shipped(), [1_000], QUICK, tmp_path))
    assert [(row.fingerprints, row.kind) for row in rows] == [(1_000, "warm-unique"), (1_000, "no coarse position")]
    for row in rows:
        assert row.p50 is not None
        assert row.p99 is not None
        assert 0 < row.p50 <= row.p99


def test_a_size_too_large_for_the_memory_has_no_figures(generator: Path, tmp_path: Path) -> None:
    rows = list(grow(generator, shipped(), [10**12], QUICK, tmp_path))
    assert [row.p50 for row in rows] == [None, None]


def test_the_cost_of_growth_compares_the_largest_cell_with_the_smallest() -> None:
    rows = [Grown(n, kind, p50, p50, 1) for n, p50 in ((1, 0.010), (2, 0.030), (3, 0.012)) for kind in ("a", "b")]
    assert cost(rows, "a") == pytest.approx(0.2)
    assert cost([*rows, Grown(4, "a", None, None, None)], "a") == pytest.approx(0.2)
    assert cost(rows[:2], "a") is None
