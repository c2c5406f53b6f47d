"""The report of a run as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.markdown import table
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
        f"{date}. `{command}`, everything on one machine, the load generator, the stores and the operator beside the "
        f"service: {words}. The service has its default settings and the shipped model. Redis runs with `appendfsync "
        "always`.",
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
        f"{latency.store}: p99 during the updates is {latency.ratio:.2f} times p99 before and after. Updates were "
        f"acknowledged after {latency.updates_p50:.2f} s (median) and {latency.updates_most:.2f} s (maximum)."
        for latency in measured
    ]
    return [
        "## Latency of users while their cell changes",
        f"Single users send {one.rate:.0f} requests/s on 128 warm tiles, open loop, in a cell of {one.fingerprints:,} "
        f"fingerprints. An operator sends {one.updates} updates of this cell over HTTP, one after the other without a "
        "pause. Of every ten updates eight append 20 to 50 fingerprints, one deletes fingerprints by age, and one "
        "rolls back. Latencies in milliseconds, from the time when a request was due.",
        table(("store", "phase", "requests", "p50", "p99", "p99.9", "maximum", "answers"), rows),
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
        "## Time until users see an update",
        f"An operator appends {one.appended:,} fingerprints over HTTP to a cell of {one.fingerprints:,}, "
        f"{len(one.appends)} times: new measurements of a part of the town. One user at each of two replicas sends "
        "requests without a pause. Seconds from sending the update until it is acknowledged, and until a user is "
        "located with it. With a directory the second replica checks for new versions every 2 s; Redis notifies it.",
        table(("store", "seconds until", "median", "p99"), rows),
    ]
