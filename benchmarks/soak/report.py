"""The report of a soak: Markdown, and memory over time as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.markdown import table
from benchmarks.soak.memory import MOST_MIB_PER_H, MOST_MORE_HANDLES, Sample
from benchmarks.soak.run import SoakResult

_LOAD = """\
One service with the shipped model, a directory, keys, and `FINGERPOST_FRAME_CACHE_BYTES` of 32 MiB, which is full
within minutes. Requests arrive at a fixed rate. Users send single requests and batches, in JSON and msgpack, with and
without a fix, with tracks, and trajectories (located by the tests' artifact, which takes no time). Some requests are
invalid, and some clients disconnect half-way. An operator replaces, appends to, deletes from and rolls back two cells,
and sends changes that are refused. Observers read metrics, the console's endpoints and exports. Clients renew their
connections every 50 requests. All versions stay on the disk."""


def markdown(date: str, command: str, machine: Mapping[str, str], result: SoakResult) -> str:
    words = ", ".join(f"{name} {value}" for name, value in machine.items())
    trend, first, last = result.trend, result.samples[0], result.samples[-1]
    kinds = [(kind.name, f"{kind.requests:,}", f"{kind.p50:.1f}", f"{kind.p99:.1f}") for kind in result.kinds]
    statuses = ", ".join(f"{count:,} x {status}" for status, count in result.statuses.items())
    parts = [
        "# Soak",
        f"{date}. `{command}`, {result.seconds / 60:.0f} minutes: {words}.",
        _LOAD,
        "## Memory",
        f"Resident memory over the last two thirds: {trend.slope:+.1f} MiB an hour (Theil-Sen; 95 % limits "
        f"{trend.low:+.1f} and {trend.high:+.1f}; flat means below {MOST_MIB_PER_H:g}), between {trend.least:.0f} and "
        f"{trend.most:.0f} MiB. Change of the medians from the second to the last third: {trend.more_files:+g} open "
        f"files, {trend.more_threads:+g} threads (flat means at most {MOST_MORE_HANDLES}). After {first.seconds:.0f} s "
        f"resident memory was {first.resident:.0f} MiB, at the end {last.resident:.0f} MiB, of which "
        f"{last.mapped:.0f} MiB were mapped files. "
        f"{'Flat.' if trend.is_flat else '**Not flat.**'}",
        "![Memory over time](soak.png)",
        "Every sample: [soak.csv](soak.csv).",
        "## Answers",
        f"{last.requests:,} requests, {len(result.wrong)} wrong answers; statuses: {statuses}. "
        f"{result.versions} versions published. Users with a fix of 1 m: median error {result.error:.2f} m. The "
        f"service took {100 * result.core:.0f} % of one core. Milliseconds at the client, beside other work:",
        table(("request", "count", "p50", "p99"), kinds),
    ]
    return "\n\n".join(parts + [f"Wrong: {one}" for one in result.wrong[:20]]) + "\n"


def draw(samples: Sequence[Sample], path: Path) -> None:
    """Draws resident and mapped memory over time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    axes = figure.subplots()
    minutes = [one.seconds / 60 for one in samples]
    axes.plot(minutes, [one.resident for one in samples], label="resident", color="tab:blue")
    axes.plot(minutes, [one.mapped for one in samples], label="of which mapped files", color="0.6")
    axes.set(xlabel="minutes", ylabel="MiB", ylim=(0, None), xlim=(0, minutes[-1]))
    axes.legend(loc="center right")
    figure.savefig(path, dpi=100)
