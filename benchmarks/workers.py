"""Measures one process and several behind one port: ``python -m benchmarks.workers --workers 1,2``.

Users of several cells send single requests in JSON, each in a tile of its own that is warm. The services run side by
side, and only one of them is asked at a time, in the order 1, 2, 2, 1, and so on. Writes
``benchmarks/results/workers.md``, or ``var/bench/workers.md`` with ``--quick``, and prints it.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from benchmarks.markdown import table
from benchmarks.serving import cells, machine
from benchmarks.serving.campaign import (
    LATENCY_S,
    Attack,
    Half,
    Pace,
    attack,
    half_load,
    one_by_one,
    saturate,
    sustained_rate,
)
from benchmarks.serving.generator import build
from benchmarks.serving.served_models import SHIPPED
from benchmarks.serving.servers import Command, fingerpost
from benchmarks.serving.workload import make_load

FOLDER = Path("var/bench")
RESULT = Path("benchmarks/results/workers.md")
# What runs beside requests, put off until the measurement is over.
_QUIET = {"FINGERPOST_FOLLOW_PERIOD_S": "86400", "FINGERPOST_RETENTION_PERIOD_S": "86400"}


@dataclass(frozen=True)
class Plan:
    """`streets`: cells of 2,000 fingerprints. Each service is measured once in a repetition."""

    pace: Pace
    streets: int
    repetitions: int


FULL = Plan(Pace(3.0, 4.0, 3.0, 10, 100), streets=16, repetitions=3)  # about 2 minutes a service and repetition
SMOKE = Plan(Pace(0.5, 0.5, 0.5, 3, 20), streets=2, repetitions=1)


@dataclass(frozen=True)
class Round:
    """What a service reached in one repetition."""

    unloaded_p50: float  # seconds, of requests one after the other
    sustained: float  # users/s
    most: float  # users/s, at any latency
    half: Half  # at half the rate that one process sustained first


def main(arguments: list[str] | None = None) -> None:
    counts, plan, result = _arguments(arguments)
    FOLDER.mkdir(parents=True, exist_ok=True)
    report = markdown(measure(counts, plan), plan)
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_text(report)
    print(report)


def measure(counts: Sequence[int], plan: Plan) -> dict[int, list[Round]]:
    """The rounds of the services with so many workers."""
    generator, database = build(FOLDER), _database(plan.streets)
    streets = [cells.street(number) for number in range(plan.streets)]
    # HAProxy finds the cell in a JSON body; in msgpack it would need a header.
    load = make_load("warm-unique", 1, "json", streets, FOLDER / "workers")
    rounds: dict[int, list[Round]] = {count: [] for count in counts}
    with contextlib.ExitStack() as stack:
        targets = {}
        for count in counts:
            _say(f"{count} workers: starting")
            targets[count] = stack.enter_context(attack(generator, _command(database, count), load))
        half_rate = 0.0
        for count in _alternately(counts, plan.repetitions):
            found = _round(targets[count], half_rate, plan.pace)
            half_rate = half_rate or found.half.rate
            rounds[count].append(found)
            _say(f"{count} workers: {found.sustained:,.0f} sustained, {found.most:,.0f} at most")
    return rounds


def _round(target: Attack, half_rate: float, pace: Pace) -> Round:
    target.most = 0.0
    unloaded = one_by_one(target, pace)
    sustained = sustained_rate(target, pace, 0.5 / unloaded)
    half = half_load(target, half_rate or sustained / 2 or 0.5 / unloaded, pace)
    saturate(target, sustained or 0.5 / unloaded, pace)
    return Round(unloaded, sustained, target.most, half)


def _command(database: Path, workers: int) -> Command:
    command = fingerpost(database, SHIPPED)
    return replace(
        command,
        name=f"{workers} workers",
        words=(*command.words, "--workers", str(workers)),
        environment={**command.environment, **_QUIET},
    )


def _alternately(counts: Sequence[int], repetitions: int) -> Iterator[int]:
    for repetition in range(repetitions):
        yield from counts if repetition % 2 == 0 else reversed(counts)


def _database(streets: int) -> Path:
    database = FOLDER / "workers" / f"database-{streets}"
    if not database.exists():
        unfinished = database.with_name(f"unfinished-{datetime.now(UTC):%H%M%S}")
        for number in range(streets):
            _say(f"importing street-{number}")
            cells.import_cell(*cells.street(number), unfinished, SHIPPED)
        unfinished.rename(database)
    return database


def markdown(rounds: dict[int, list[Round]], plan: Plan) -> str:
    words = ", ".join(f"{name} {value}" for name, value in machine.describe(None, None).items())
    first = next(iter(rounds))
    head = ("", *(f"{count} process{'es' * (count > 1)}" for count in rounds))
    rate = rounds[first][0].half.rate
    quantities = (
        (f"users/s sustained at p99 ≤ {1e3 * LATENCY_S:g} ms", lambda one: one.sustained, "{:,.0f}"),
        ("users/s at any latency", lambda one: one.most, "{:,.0f}"),
        ("p50 of requests one after the other, ms", lambda one: 1e3 * one.unloaded_p50, "{:.1f}"),
        (f"p50 at {rate:,.0f} users/s, ms", lambda one: 1e3 * one.half.p50, "{:.1f}"),
        (f"p99 at {rate:,.0f} users/s, ms", lambda one: 1e3 * one.half.p99, "{:.1f}"),
        ("CPU a user at this rate, ms", lambda one: 1e3 * one.half.cpu_s_per_location, "{:.2f}"),
        ("memory of all processes, MiB", lambda one: one.half.memory_bytes / 2**20, "{:,.0f}"),
    )
    rows = [
        (name, *(_spread([read(one) for one in found], form) for found in rounds.values()))
        for name, read, form in quantities
    ]
    parts = [
        "# Several processes behind one port",
        f"{datetime.now(UTC).date().isoformat()}. Command: `python -m benchmarks.workers --workers "
        f"{','.join(map(str, rounds))}`. Machine: {words}.",
        f"`fingerpost serve --workers N` with the shipped model and default settings; one process serves without "
        f"HAProxy, several behind it. Users of {plan.streets} cells with 2,000 fingerprints each send single requests "
        "in JSON, each in a warm tile of its own. The load generator runs on the same machine. "
        f"{plan.repetitions} repetitions in alternation; a trial of a rate lasts {plan.pace.trial_s:g} s. Figures are "
        "medians, with the range in brackets.",
        table(head, rows),
    ]
    return "\n\n".join(parts) + "\n"


def _spread(values: Sequence[float], form: str) -> str:
    middle, low, high = (form.format(value) for value in (median(values), min(values), max(values)))
    return f"{middle} ({low}-{high})"


def _arguments(arguments: list[str] | None) -> tuple[list[int], Plan, Path]:
    parser = argparse.ArgumentParser(description="Measures one process and several behind one port, in one run.")
    parser.add_argument("--workers", default="1,2", metavar="N,N", help="how many workers, the first to compare with")
    parser.add_argument("--repetitions", type=int, help=f"of every service; default {FULL.repetitions}")
    parser.add_argument("--quick", action="store_true", help="a smoke test; the figures mean nothing")
    given = parser.parse_args(arguments)
    plan = SMOKE if given.quick else FULL
    if given.repetitions is not None:
        plan = replace(plan, repetitions=given.repetitions)
    counts = [int(one) for one in given.workers.split(",")]
    return counts, plan, FOLDER / RESULT.name if given.quick else RESULT


def _say(what: str) -> None:
    print(f"workers: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
