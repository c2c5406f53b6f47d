"""Measures two checkouts of this repository in pairs: ``python -m benchmarks.serving.pairs --before DIR``.

"before" is the checkout in DIR, "after" the one that this module runs in; both run with this Python interpreter. The
order is before, after, after, before, and so on. Writes ``benchmarks/results/rebuild.md``, or ``var/bench/rebuild.md``
with ``--quick``, and prints the table.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from benchmarks.markdown import table
from benchmarks.serving import cells, machine
from benchmarks.serving.app_alone import App
from benchmarks.serving.campaign import LATENCY_S, OVERLOAD, Attack, Pace, attack, half_load, one_by_one, sustained_rate
from benchmarks.serving.generator import build
from benchmarks.serving.served_models import paper_size
from benchmarks.serving.servers import THIS_CHECKOUT, Checkout, fingerpost
from benchmarks.serving.workload import Kind, Load, encode_request, make_load, users_at_one_place
from models.artifact import MANIFEST_FILE

FOLDER = Path("var/bench")
RESULT = Path("benchmarks/results/rebuild.md")
LOADS: tuple[tuple[Kind, int], ...] = (("shared", 1), ("warm-unique", 1), ("shared", 16), ("warm-unique", 16))
RATE_BUDGET = 0.95  # after over before
APP_BUDGET_S = 0.25e-3  # CPU of a single request
_STREETS = 8
_STEP, _PRECISION = 1.12, 1.03  # of the search for a sustained rate, which starts where the last one ended
# What runs beside requests in a served app, put off until the measurement is over.
_QUIET = {"FINGERPOST_FOLLOW_PERIOD_S": "86400", "FINGERPOST_RETENTION_PERIOD_S": "86400"}


@dataclass(frozen=True)
class Plan:
    pace: Pace
    loads: tuple[tuple[Kind, int], ...]
    streets: int  # cells of 2,000 fingerprints
    repetitions: int
    app_repetitions: int
    app_requests: int


FULL = Plan(Pace(2.0, 2.0, 2.0, 10, 100), LOADS, _STREETS, 4, 10, 5_000)  # 15 minutes at most
SMOKE = Plan(Pace(0.5, 0.5, 0.5, 3, 20), LOADS[:1], 1, 2, 2, 200)


@dataclass(frozen=True)
class Side:
    """One checkout, and the model that it serves."""

    name: str
    checkout: Checkout
    artifact: Path

    @property
    def commit(self) -> str:
        changed = self._git("status", "--porcelain", "--untracked-files=no")
        return self._git("rev-parse", "--short", "HEAD") + (" with uncommitted changes" if changed else "")

    def _git(self, *words: str) -> str:
        command = ["git", "-C", str(self.checkout.folder), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


Sides = tuple[Side, Side]


@dataclass(frozen=True)
class Pair:
    """One quantity: a value of each side in each repetition, in the order of the repetitions."""

    name: str
    before: list[float]
    after: list[float]

    @property
    def ratios(self) -> list[float]:
        """After over before; NaN where before is 0."""
        return [b / a if a else float("nan") for a, b in zip(self.before, self.after, strict=True)]

    @property
    def ratio(self) -> float:
        return median(self.ratios)


@dataclass(frozen=True)
class Round:
    """What one side reached in one repetition."""

    sustained: float  # locations a second
    most: float  # locations a second, at any latency
    cpu_s_per_location: float  # of the whole server, at the rate that both sides get


def main() -> None:
    plan, sides, paper, result = _arguments()
    FOLDER.mkdir(parents=True, exist_ok=True)
    app = measure_app(sides, plan)
    rates = {"shipped model": measure_rates(sides, plan)}
    if paper:
        model = paper_size(FOLDER)
        before, after = (replace(side, artifact=model.folder) for side in sides)
        rates[model.name] = measure_rates((before, after), plan)
    report = markdown(sides, plan, app, rates)
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_text(report)
    print(report)


def measure_app(sides: Sides, plan: Plan) -> list[Pair]:
    """CPU seconds of a single request in the app alone, and of a request that only asks whether the app lives."""
    database = _database(sides, plan.streets)
    bodies = FOLDER / "pairs-bodies.jsonl"
    users = users_at_one_place(*cells.street(0), users=64)
    bodies.write_bytes(b"\n".join(encode_request(users.part(slice(i, i + 1)), "json") for i in range(len(users))))
    environment = _QUIET | {"FINGERPOST_DATABASE_DIRECTORY": str(database.resolve())}
    found: dict[tuple[str, str], list[float]] = {}
    with contextlib.ExitStack() as stack:
        apps = {}
        for side in sides:
            _say(f"the app alone, {side.name}: starting")
            variables = environment | {"FINGERPOST_ARTIFACT_DIRECTORY": str(side.artifact.resolve())}
            apps[side.name] = stack.enter_context(App.running(side.checkout.folder, bodies, variables))
        for side in _alternately(sides, plan.app_repetitions):
            for route in ("locate", "live"):
                cpu = apps[side.name].cpu_of(route, plan.app_requests)
                found.setdefault((route, side.name), []).append(cpu)
    names = {"locate": "single `POST /locate`", "live": "`GET /health/live`"}
    return [Pair(name, found[route, "before"], found[route, "after"]) for route, name in names.items()]


def measure_rates(sides: Sides, plan: Plan) -> list[list[Pair]]:
    """Three pairs for each load: sustained rate, highest rate, CPU seconds a location."""
    generator, database = build(FOLDER), _database(sides, plan.streets)
    streets = [cells.street(number) for number in range(plan.streets)]
    measured = []
    for kind, users in plan.loads:
        load = make_load(kind, users, "msgpack", streets, FOLDER / "pairs")
        name = f"{kind}, {'single' if users == 1 else f'batches of {users}'}"
        _say(name)
        rounds = _rounds(generator, database, sides, load, plan)
        measured.append(
            [
                Pair(name, *([getattr(one, quantity) for one in rounds[side.name]] for side in sides))
                for quantity in ("sustained", "most", "cpu_s_per_location")
            ]
        )
    return measured


def _rounds(generator: Path, database: Path, sides: Sides, load: Load, plan: Plan) -> dict[str, list[Round]]:
    """Both servers stay up meanwhile; only one of them is asked at a time."""
    rounds: dict[str, list[Round]] = {side.name: [] for side in sides}
    with contextlib.ExitStack() as stack:
        targets = {
            side.name: stack.enter_context(
                attack(generator, fingerpost(database, side.artifact, checkout=side.checkout), load)
            )
            for side in sides
        }
        unloaded = one_by_one(targets["before"], plan.pace)
        rate = sustained_rate(targets["before"], plan.pace, 0.5 / unloaded) or 0.5 / unloaded
        half_rate = rate / 2
        for side in _alternately(sides, plan.repetitions):
            found, rate = _round(targets[side.name], rate, half_rate, load.users, plan.pace)
            rounds[side.name].append(found)
            _say(f"{side.name}: {found.sustained:,.0f} sustained, {found.most:,.0f} at most")
    return rounds


def _round(target: Attack, start: float, half_rate: float, users: int, pace: Pace) -> tuple[Round, float]:
    """And the rate, in requests a second, at which the next search is to start."""
    target.most = 0.0
    sustained = sustained_rate(target, pace, start, _STEP, _PRECISION)
    cost = half_load(target, half_rate, pace).cpu_s_per_location
    target.fire(OVERLOAD * (sustained or start), pace.overload_s, pace.fewest)
    return Round(sustained * users, target.most, cost), sustained or start


def _alternately(sides: Sides, repetitions: int) -> Iterator[Side]:
    """Before, after, after, before, before, after, ..."""
    for repetition in range(repetitions):
        yield from sides if repetition % 2 == 0 else reversed(sides)


def _database(sides: Sides, streets: int) -> Path:
    """The cells, imported once by the first side with its model: both sides read the same stored format."""
    before = sides[0]
    digest = hashlib.sha256((before.artifact / MANIFEST_FILE).read_bytes()).hexdigest()[:12]
    database = FOLDER / "pairs" / f"{before.commit.replace(' ', '-')}-{digest}-{streets}"
    if not database.exists():
        unfinished = database.with_name(f"unfinished-{datetime.now(UTC):%H%M%S}")
        for number in range(streets):
            _say(f"importing street-{number}")
            cells.import_cell(*cells.street(number), unfinished, before.artifact, before.checkout)
        unfinished.rename(database)
    return database


def markdown(sides: Sides, plan: Plan, app: Sequence[Pair], rates: dict[str, list[list[Pair]]]) -> str:
    words = ", ".join(f"{name} {value}" for name, value in machine.describe(None, None).items())
    missed = [
        f"{name} rate, {model}, {pair.name}"
        for model, loads in rates.items()
        for sustained, most, _ in loads
        for name, pair in (("sustained", sustained), ("highest", most))
        if not pair.ratio >= RATE_BUDGET
    ]
    missed += [f"CPU of the app alone, {pair.name}" for pair in app[:1] if not median(pair.after) <= APP_BUDGET_S]
    head = ("", "before", "after", "after / before")
    parts = [
        "# Before and after the rebuild",
        f"{datetime.now(UTC).date().isoformat()}. Before: {sides[0].commit}. After: {sides[1].commit}. "
        f"Command: `python -m benchmarks.serving.pairs --before DIR{' --paper' if len(rates) > 1 else ''}`. "
        f"Machine: {words}.",
        f"Budget: sustained and highest rates at least {RATE_BUDGET:g} of those before, CPU of the app alone at most "
        f"{1e3 * APP_BUDGET_S:g} ms for a single request. "
        + (f"**Missed: {'; '.join(missed)}.**" if missed else "**Met.**"),
        "Both checkouts run on the same machine, with the same interpreter and packages, on the same database, in one "
        "run. The order is before, after, after, before, and so on. Figures are medians, with the range of the "
        "repetitions in brackets; the last column is the median of the ratios of each repetition.",
        "## The app alone",
        "CPU milliseconds of one request, all threads of the process together. The app of `create_app` is called in "
        "process, without a socket. The dispatcher answers at once, so neither retrieval nor the model runs: what is "
        "left is HTTP handling, decoding, validation, placing, encoding and metrics. The request is JSON of about "
        f"11 kB (32 x 32 complex64 and a coarse position). {plan.app_repetitions} repetitions of "
        f"{plan.app_requests:,} requests. `GET /health/live` shows what middleware and routing take.",
        table(head, [_row(pair, "{:.3f}", 1e3) for pair in app]),
    ]
    for model, loads in rates.items():
        sustained, most, cost = ([load[i] for load in loads] for i in range(3))
        parts += [
            f"## Rates, {model}",
            f"Locations a second over HTTP, with msgpack, with the load generator of `benchmarks.serving`. "
            f"{plan.repetitions} repetitions; a trial of a rate lasts {plan.pace.trial_s:g} s.",
            f"Sustained (p99 ≤ {1e3 * LATENCY_S:g} ms, every user located):",
            table(head, [_row(pair, "{:,.0f}") for pair in sustained]),
            "Highest (at any latency):",
            table(head, [_row(pair, "{:,.0f}") for pair in most]),
            "CPU milliseconds a location of the whole server, both at half the rate that the checkout before sustains:",
            table(head, [_row(pair, "{:.2f}", 1e3) for pair in cost]),
        ]
    return "\n\n".join(parts) + "\n"


def _row(pair: Pair, form: str, scale: float = 1.0) -> tuple[str, ...]:
    return (
        pair.name,
        *(_spread([scale * value for value in values], form) for values in (pair.before, pair.after)),
        _spread(pair.ratios, "{:.2f}"),
    )


def _spread(values: Sequence[float], form: str) -> str:
    middle, low, high = (form.format(value) for value in (median(values), min(values), max(values)))
    return f"{middle} ({low}-{high})"


def _arguments() -> tuple[Plan, Sides, bool, Path]:
    parser = argparse.ArgumentParser(description="Measures two checkouts of this repository in pairs, in one run.")
    parser.add_argument("--before", type=Path, required=True, metavar="DIR", help="the checkout to compare with")
    parser.add_argument("--repetitions", type=int, help=f"of every rate on each side; default {FULL.repetitions}")
    parser.add_argument("--paper", action="store_true", help="measure rates with a model of the paper's size, too")
    parser.add_argument("--quick", action="store_true", help="a smoke test; the figures mean nothing")
    given = parser.parse_args()
    plan = SMOKE if given.quick else FULL
    if given.repetitions is not None:
        plan = replace(plan, repetitions=given.repetitions)
    checkouts = {"before": Checkout(given.before.resolve()), "after": THIS_CHECKOUT}
    before, after = (
        Side(name, checkout, checkout.folder / "models" / "artifacts" / "mateformer")
        for name, checkout in checkouts.items()
    )
    return plan, (before, after), given.paper, FOLDER / RESULT.name if given.quick else RESULT


def _say(what: str) -> None:
    print(f"pairs: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
