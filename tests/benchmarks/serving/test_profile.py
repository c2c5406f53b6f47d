from pathlib import Path

import pytest

from benchmarks.serving.profile import PY_SPY, Cost, profile, self_times, table

RAW = """\
thread (17): MainThread;serve (service/server.py:20);locate (service/locating/locator.py:99) 3
thread (17): MainThread;serve (service/server.py:20);locate (service/locating/locator.py:101) 2
thread (17): MainThread;serve (service/server.py:20) 1
thread (0x7F08): mateformer_0;run (threading.py:982);Session.run (onnxruntime/a.py:1) 4
thread (19): mateformer_0;odd name; with (all sorts.py:3) 1
nothing of the kind
"""


def test_samples_count_for_the_innermost_function_on_any_line() -> None:
    assert self_times(RAW) == {
        "MainThread": {"locate (service/locating/locator.py)": 5, "serve (service/server.py)": 1},
        "mateformer": {"Session.run (onnxruntime/a.py)": 4, " with (all sorts.py)": 1},
    }


def test_the_table_has_the_cpu_of_a_location_and_the_functions_of_each_thread() -> None:
    printed = table(Cost(0.0005, 0.002), self_times(RAW))
    assert "event loop 0.50 ms, other threads 2.00 ms" in printed
    assert "| event loop, 6 samples | self time |" in printed
    assert "| `locate (service/locating/locator.py)` | 83.3% |" in printed
    assert "| model, 5 samples | self time |" in printed


@pytest.mark.skipif(not PY_SPY.exists(), reason=f"no {PY_SPY}: `make bench-profile` makes it")
def test_a_service_under_a_small_load_is_sampled_and_drawn(generator: Path, tmp_path: Path) -> None:
    # More users than the event loop locates itself.
    printed = profile(generator, PY_SPY, "shared", users=20, rate=200, seconds=2, folder=tmp_path)
    assert "| event loop, " in printed
    assert "| model, " in printed
    assert (tmp_path / "profile.svg").read_text().startswith("<?xml")
