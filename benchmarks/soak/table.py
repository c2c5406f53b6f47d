"""A soak's figures as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.soak.hours import Hours
from benchmarks.soak.memory import MOST_MIB_PER_H, MOST_MORE_HANDLES

_SAID = """\
One service (shipped network, a directory, keys, `FINGERPOST_FRAME_CACHE_BYTES` of 32 MiB so that it is full within
minutes) and, at a fixed pace, all whom it is for: users with and without a fix, in JSON and msgpack, alone and in
batches, with a track, as trajectories (the tests' artifact, which takes no time), badly, and hanging up in the midst;
an operator who replaces, appends to, deletes from and rolls back two cells, and tries what is refused; Prometheus, the
console's endpoints, exports. Connections change every 50 requests. Versions are kept for ever, on the disk."""


def markdown(date: str, command: str, machine: Mapping[str, str], hours: Hours) -> str:
    words = ", ".join(f"{name} {value}" for name, value in machine.items())
    trend, first, last = hours.trend, hours.samples[0], hours.samples[-1]
    kinds = [(kind.name, f"{kind.requests:,}", f"{kind.p50:.1f}", f"{kind.p99:.1f}") for kind in hours.kinds]
    statuses = ", ".join(f"{count:,} x {status}" for status, count in hours.statuses.items())
    parts = [
        "# Soak",
        f"{date}. `{command}`, {hours.seconds / 60:.0f} minutes: {words}.",
        _SAID,
        "## Memory",
        f"Resident, over the last two thirds: {trend.slope:+.1f} MiB an hour (Theil-Sen; 95 % limits {trend.low:+.1f} "
        f"and {trend.high:+.1f}; flat is below {MOST_MIB_PER_H:g}), between {trend.least:.0f} and {trend.most:.0f} "
        f"MiB. Files open and threads, medians, in the last third beside the one before: {trend.more_files:+g} "
        f"and {trend.more_threads:+g} (flat is up to {MOST_MORE_HANDLES}). After {first.seconds:.0f} s it was "
        f"{first.resident:.0f} MiB, at the end {last.resident:.0f}, {last.mapped:.0f} of them mapped files. "
        f"{'Flat.' if trend.is_flat else '**Not flat.**'}",
        "![Memory over time](soak.png)",
        "Every sample: [soak.csv](soak.csv).",
        "## Answers",
        f"{last.requests:,} requests, {len(hours.wrong)} not answered as they should be; {statuses}. "
        f"{hours.versions} versions published. Users with a fix of 1 m: median error {hours.error:.2f} m. The service "
        f"took {100 * hours.core:.0f} % of one core. Milliseconds, as the client saw them, on a machine with other "
        "work to do:",
        _table(("request", "count", "p50", "p99"), kinds),
    ]
    return "\n\n".join(parts + [f"Wrong: {one}" for one in hours.wrong[:20]]) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
