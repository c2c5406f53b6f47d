"""A run's figures as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.updates.latency import Latency
from benchmarks.updates.visibility import Moments, Visibility


def markdown(
    date: str,
    command: str,
    quick: bool,
    machine: Mapping[str, str],
    latency: Sequence[Latency],
    visibility: Sequence[Visibility],
) -> str:
    words = ", ".join(f"{name} {value}" for name, value in machine.items())
    parts = [
        f"# Updates{' (quick: figures are rough)' if quick else ''}",
        f"{date}. `{command}`, all on one machine, the load generator, the stores and the operator beside the service: "
        f"{words}. Every setting of the service at its default, the shipped model; Redis with `appendfsync always`.",
        *_latency(latency),
        *_visibility(visibility),
    ]
    return "\n\n".join(parts) + "\n"


def _latency(measured: Sequence[Latency]) -> list[str]:
    if not measured:
        return []
    one = measured[0]
    rows = [
        (
            latency.store,
            f"{phase.name} ({phase.seconds:.0f} s)",
            f"{phase.requests:,}",
            *(f"{1e3 * seconds:.1f}" for seconds in (phase.p50, phase.p99, phase.p999, phase.most)),
            ", ".join(f"{count:,} x {status}" for status, count in sorted(phase.statuses.items())),
        )
        for latency in measured
        for phase in latency.phases
    ]
    updates = [
        f"{latency.store}: p99 during {latency.ratio:.2f} times that before and after; an update was acknowledged "
        f"after {latency.updates_p50:.2f} s (median), {latency.updates_most:.2f} s at most"
        for latency in measured
    ]
    return [
        "## Users while a cell is changed",
        f"{one.rate:.0f} requests/s of single users on 128 warm tiles, open loop, in a cell of {one.fingerprints:,} "
        f"fingerprints; {one.updates} updates of that cell over HTTP one after the other without a pause: of every ten "
        "eight append 20 to 50 fingerprints, one deletes some by age, one rolls back. Milliseconds from when a request "
        "was due.",
        _table(("store", "phase", "requests", "p50", "p99", "p99.9", "most", "answers"), rows),
        *updates,
    ]


def _visibility(measured: Sequence[Visibility]) -> list[str]:
    if not measured:
        return []
    one = measured[0]
    rows = [
        (
            visibility.store,
            name,
            *(f"{visibility.quantile(field, q):.2f}" for q in (0.5, 0.99)),
        )
        for visibility in measured
        for field, name in Moments.names().items()
    ]
    return [
        "## When an update is seen",
        f"{one.appended:,} fingerprints appended over HTTP to a cell of {one.fingerprints:,}, {len(one.appends)} "
        "times, a part of the town measured again; two replicas, each asked by one user without a pause. Seconds from "
        "when the update was sent until it was acknowledged, and until a user was located in it; with a directory the "
        "second replica looks every 2 s, with Redis it is told.",
        _table(("store", "seconds until", "median", "p99"), rows),
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
