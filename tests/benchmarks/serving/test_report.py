from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.serving.campaign import Figures, Half, Overload
from benchmarks.serving.floor import Floor, Machine
from benchmarks.serving.growth import Grown
from benchmarks.serving.inprocess import Batch
from benchmarks.serving.plot import draw
from benchmarks.serving.report import ModelReport, Report, read_report
from benchmarks.serving.table import markdown

OURS = Figures(
    server="Fingerpost",
    kind="shared",
    format="msgpack",
    users=1,
    tuning="",
    locations_per_s=2000.0,
    most_locations_per_s=2200.0,
    unloaded_p50=0.002,
    half=Half(1000.0, 12_000, 0.003, 0.007, 0.0095, 0.0008, 512 << 20),
    overload=Overload(6000.0, 36_000, 15_000, 20_990, 0, 10, 0, 2200.0, 0.0105),
    generator_share=0.1,
)
THEIRS = replace(OURS, server="LitServe", kind="any", tuning="1 workers, batch 4, 2 ms", locations_per_s=0.0)
REPORT = Report(
    date="2026-01-01",
    quick=False,
    machine={"CPU": "abacus", "cores": "2"},
    rates=Machine(1e11, 1e10),
    models=[
        ModelReport(
            name="d 256, N 8",
            figures=[OURS, THEIRS],
            in_process={
                "onnx": [
                    Batch(1, 0.01, 0.012, 0.013, 90.0, 0.02, 1 << 30),
                    Batch(64, 0.4, 0.5, 0.5, 150.0, 0.01, 1 << 30),
                ]
            },
            floors=[Floor("shared", 4_000_000, 0.00004, 0.0), Floor("cold", 500_000_000, 0.005, 0.001)],
        )
    ],
    growth=[Grown(1_000, "warm-unique", 0.004, 0.006, 1 << 29), Grown(10_000, "warm-unique", 0.005, 0.007, 1 << 30)],
    notes=["bentoml: not installed"],
)


def row(start: str) -> list[str]:
    line = next(line for line in markdown(REPORT).splitlines() if line.startswith(f"| {start}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_served_row_has_rate_latencies_cost_and_share_of_the_floor() -> None:
    assert row("Fingerpost | shared | 1 | 2,000") == [
        "Fingerpost",
        "shared",
        "1",
        "2,000",
        "2,200",
        "3.0 / 7.0 / 9.5",
        "0.80",
        "512",
        "8.0%",
    ]


def test_users_for_a_euro_follow_from_the_highest_rate_and_the_cores() -> None:
    assert "| Fingerpost | shared | 1 | 99.0 M |" in markdown(REPORT)  # 2,200/s for 12.5 hours of two cores
    one_core = replace(REPORT, machine=REPORT.machine | {"cores": "1"})
    assert "| Fingerpost | shared | 1 | 198.0 M |" in markdown(one_core)


def test_a_server_that_sustains_nothing_shows_its_latency_one_by_one() -> None:
    assert row("LitServe (1 workers")[3] == "none (one by one 2.0 ms)"


def test_in_process_runs_show_the_best_batch_within_the_limit_and_the_best_of_all() -> None:
    assert row("ONNX Runtime")[2:5] == ["batch 1", "90", "150 at batch 64"]


def test_rivals_count_with_their_highest_rate_at_any_latency() -> None:
    others = replace(THEIRS, most_locations_per_s=80.0)
    models = [replace(REPORT.models[0], figures=[OURS, others])]
    lines = markdown(replace(REPORT, models=models)).splitlines()
    head = next(line for line in lines if line.startswith("| Fingerpost | users a request | over"))
    assert head == "| Fingerpost | users a request | over ONNX Runtime, in process, 150/s | over LitServe, 80/s |"
    assert "| shared, msgpack | 1 | 13.3 x / 14.7 x | 25.0 x / 27.5 x |" in lines


def test_the_overload_table_counts_every_request() -> None:
    assert row("Fingerpost | shared | 1 | 36,000")[3:] == [
        "36,000",
        "15,000",
        "20,990",
        "0",
        "10",
        "0",
        "2,200",
        "10.5",
        "1.5 x",
    ]


def test_the_report_has_growth_and_notes() -> None:
    said = markdown(REPORT)
    assert "warm-unique: +25%" in said
    assert "Not measured: bentoml: not installed." in said


def test_json_holds_the_whole_report(tmp_path: Path) -> None:
    REPORT.write(tmp_path / "serving.json")
    assert read_report(tmp_path / "serving.json") == REPORT


@pytest.mark.parametrize("locations_per_s", [0.0, 2000.0])
def test_the_picture_is_drawn(tmp_path: Path, locations_per_s: float) -> None:
    model = replace(REPORT.models[0], figures=[replace(OURS, locations_per_s=locations_per_s)])
    draw(replace(REPORT, models=[model]), tmp_path / "serving.png")
    assert (tmp_path / "serving.png").read_bytes().startswith(b"\x89PNG")
