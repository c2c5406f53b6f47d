"""The report of a run as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.markdown import table
from benchmarks.serving.campaign import LATENCY_S, OVERLOAD, Figures
from benchmarks.serving.growth import Grown, cost
from benchmarks.serving.inprocess import NAMES, Batch, best
from benchmarks.serving.report import ModelReport, Report

EURO_A_CORE = 0.04  # and hour: about what a shared core costs in public clouds

_SERVERS = (
    "server",
    "tiles",
    "users a request",
    f"locations/s, p99 ≤ {1000 * LATENCY_S:g} ms",
    "highest rate, any latency",
    "p50 / p99 / p99.9 at half the sustained rate (ms)",
    "CPU ms a location",
    "memory (MiB)",
    "share of the floor",
)
_OVERLOADS = (
    "server",
    "tiles",
    "users a request",
    "requests",
    "accepted",
    "refused",
    "failed",
    "lost",
    "hanging",
    "locations/s",
    "p99 of the accepted (ms)",
    "over p99 at half load",
)


def markdown(report: Report) -> str:
    words = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    rates = report.rates
    parts = [
        f"# Serving benchmark{' (quick: figures are rough)' if report.quick else ''}",
        f"{report.date}. `make bench`, everything on one machine, the load generator beside the servers: {words}. "
        f"Measured: {rates.multiply_adds / 1e9:.1f} G multiply-adds/s in matrix products, {rates.bytes / 1e9:.1f} GB/s "
        "from memory.",
        "Open loop: the generator sends requests at a constant rate, whatever the server answers. Latency counts from "
        "the time when a request was due. LitServe and BentoML cache nothing between requests, so one kind of tile "
        "stands for all. They use the 64 fingerprints nearest to the coarse position, and answer two numbers. "
        "The floor is the least time of a location: the larger of its multiply-adds over the measured rate and its "
        "bytes over the measured bandwidth. Share of the floor: the floor over the time of a location at the sustained "
        f"rate. The generator took at most {_most_of_a_core(report):.0%} of a core.",
        *(part for model in report.models for part in _model(model, int(report.machine["cores"]))),
        *_growth(report.growth),
        *([f"Not measured: {'; '.join(report.notes)}."] if report.notes else []),
    ]
    return "\n\n".join(parts) + "\n"


def _most_of_a_core(report: Report) -> float:
    return max((figures.generator_share for model in report.models for figures in model.figures), default=0.0)


def _model(report: ModelReport, cores: int) -> list[str]:
    served = [_server_row(report, figures) for figures in report.figures]
    inside = [_process_row(report, name, batches) for name, batches in _in_process(report)]
    floors = [
        (
            floor.kind,
            f"{floor.multiply_adds / 1e6:.2f} M",
            *(f"{1000 * s:.4f}" for s in (floor.computing_s, floor.reading_s)),
        )
        for floor in report.floors
    ]
    return [
        f"## {report.name}",
        table(_SERVERS, [*served, *inside]),
        *_ratios(report),
        *_euros(report, cores),
        f"At {OVERLOAD:g} times the sustained rate (if no rate is sustained: {OVERLOAD:g} times the rate of requests "
        "one by one):",
        table(_OVERLOADS, [_overload_row(figures) for figures in report.figures]),
        "The floor:",
        table(("tiles", "multiply-adds a location", "ms of computing", "ms of reading"), floors),
    ]


def _ratios(report: ModelReport) -> list[str]:
    """Fingerpost's rates over the highest rate of each rival at any latency."""
    ours = [figures for figures in report.figures if figures.kind != "any"]
    most = {name: max(of.locations_per_s for of in batches) for name, batches in _in_process(report)}
    for figures in report.figures:
        if figures.kind == "any":
            most[figures.server] = max(figures.most_locations_per_s, most.get(figures.server, 0.0))
    if not ours or not most:
        return []
    head = ("Fingerpost", "users a request", *(f"over {name}, {rate:,.0f}/s" for name, rate in most.items()))
    rows = [
        (
            ", ".join(filter(None, (figures.kind, figures.format, figures.tuning))),
            str(figures.users),
            *(_over(figures, rate) for rate in most.values()),
        )
        for figures in ours
    ]
    explained = (
        "Fingerpost over the highest rate of each rival at any latency and any batch. The first figure is Fingerpost's "
        f"sustained rate (p99 ≤ {1000 * LATENCY_S:g} ms), the second its own highest rate:"
    )
    return [explained, table(head, rows)]


def _euros(report: ModelReport, cores: int) -> list[str]:
    """How many users are located for one euro, at the highest rate."""
    rows = [
        (_named(figures), figures.kind, str(figures.users), f"{_users_for_a_euro(figures, cores) / 1e6:.1f} M")
        for figures in report.figures
    ]
    explained = (
        f"Users located for one euro at the highest rate, if a core costs {EURO_A_CORE:g} € an hour "
        f"({cores} cores; at another price, multiply by {EURO_A_CORE:g} over it):"
    )
    return [explained, table(("server", "tiles", "users a request", "users for one euro"), rows)] if rows else []


def _users_for_a_euro(figures: Figures, cores: int) -> float:
    return figures.most_locations_per_s * 3600 / (cores * EURO_A_CORE)


def _over(figures: Figures, rate: float) -> str:
    return f"{figures.locations_per_s / rate:.1f} x / {figures.most_locations_per_s / rate:.1f} x"


def _in_process(report: ModelReport) -> list[tuple[str, list[Batch]]]:
    return [(NAMES[name], batches) for name, batches in report.in_process.items()]


def _server_row(report: ModelReport, figures: Figures) -> tuple[str, ...]:
    half, rate = figures.half, figures.locations_per_s
    return (
        _named(figures),
        figures.kind,
        str(figures.users),
        f"{rate:,.0f}" if rate else f"none (one by one {1000 * figures.unloaded_p50:.1f} ms)",
        f"{figures.most_locations_per_s:,.0f}",
        f"{_ms(half.p50)} / {_ms(half.p99)} / {_ms(half.p999)}",
        f"{1000 * half.cpu_s_per_location:.2f}",
        f"{half.memory_bytes / 2**20:,.0f}",
        f"{rate * report.floor_s(figures.kind):.1%}" if rate else "-",
    )


def _process_row(report: ModelReport, name: str, batches: Sequence[Batch]) -> tuple[str, ...]:
    """The fastest batch size within the latency limit, and the fastest of all sizes."""
    within, ever = best(list(batches), LATENCY_S), best(list(batches), float("inf"))
    assert ever is not None
    shown = within or ever
    most = f"{ever.locations_per_s:,.0f} at batch {ever.size}"
    return (
        name,
        "any",
        f"batch {shown.size}",
        f"{within.locations_per_s:,.0f}" if within else "none",
        most,
        f"{_ms(shown.p50)} / {_ms(shown.p99)} / {_ms(shown.p999)}, not at half load",
        f"{1000 * shown.cpu_s_per_location:.2f}",
        f"{shown.memory_bytes / 2**20:,.0f}",
        f"{shown.locations_per_s * report.floor_s('cold'):.1%}",
    )


def _overload_row(figures: Figures) -> tuple[str, ...]:
    load = figures.overload
    counts = (load.requests, load.accepted, load.refused, load.failed, load.lost, load.hanging)
    return (
        _named(figures),
        figures.kind,
        str(figures.users),
        *(f"{count:,}" for count in counts),
        f"{load.locations_per_s:,.0f}",
        _ms(load.p99),
        f"{load.p99 / figures.half.p99:.1f} x",
    )


def _growth(rows: Sequence[Grown]) -> list[str]:
    if not rows:
        return []
    sizes = table(
        ("fingerprints", "users", "p50 (ms)", "p99 (ms)", "memory (MiB)"),
        [(f"{row.fingerprints:,}", row.kind, *_grown(row)) for row in rows],
    )
    costs = {kind: cost(rows, kind) for kind in dict.fromkeys(row.kind for row in rows)}
    changes = "; ".join(f"{kind}: {found:+.0%}" for kind, found in costs.items() if found is not None)
    return [
        "## A cell that grows",
        f"One request at a time. Growth of p50 from the smallest to the largest cell: {changes}.",
        sizes,
    ]


def _grown(row: Grown) -> tuple[str, str, str]:
    if row.p50 is None or row.p99 is None or row.memory_bytes is None:
        return "memory too small", "-", "-"
    return _ms(row.p50), _ms(row.p99), f"{row.memory_bytes / 2**20:,.0f}"


def _named(figures: Figures) -> str:
    asked = f"{figures.server}, JSON" if figures.format == "json" else figures.server
    return f"{asked} ({figures.tuning})" if figures.tuning else asked


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"
