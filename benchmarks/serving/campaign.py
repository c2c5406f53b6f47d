"""One load on one server: sustained rate, latency at half that rate, behaviour at three times that rate, CPU cost."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.generator import HANGING, LOST, OK, Answers, fire
from benchmarks.serving.servers import Command, Server, running
from benchmarks.serving.sustained import PRECISION, highest_rate
from benchmarks.serving.workload import PROBLEM, Load

LATENCY_S = 0.020  # largest p99 of a sustained rate
OVERLOAD = 3.0
_MOST = 10_000.0  # requests a second
_REFUSALS = (429, 503)
_MORE, _GAIN, _SATURATIONS = 1.5, 1.05, 12  # of the search for the highest rate at any latency
_PATIENCE, _FEWEST = 3.0, 3
_LOADING_S = 900.0  # a cell of a million fingerprints is indexed for minutes


@dataclass(frozen=True)
class Pace:
    """Duration of each run in seconds, most trials of the search for the sustained rate, fewest requests of a run."""

    trial_s: float
    half_load_s: float
    overload_s: float
    trials: int
    fewest: int


THOROUGH = Pace(trial_s=3.0, half_load_s=8.0, overload_s=6.0, trials=14, fewest=100)
BRISK = Pace(trial_s=2.0, half_load_s=5.0, overload_s=4.0, trials=10, fewest=100)
SWEEP = Pace(trial_s=2.0, half_load_s=3.0, overload_s=3.0, trials=8, fewest=50)
QUICK = Pace(trial_s=1.0, half_load_s=2.0, overload_s=1.0, trials=5, fewest=20)


@dataclass(frozen=True)
class Half:
    """At half the sustained rate; if no rate is sustained, one request at a time. Latencies in seconds."""

    rate: float  # requests a second
    requests: int
    p50: float
    p99: float
    p999: float
    cpu_s_per_location: float
    memory_bytes: int


@dataclass(frozen=True)
class Overload:
    """At three times the sustained rate; latencies in seconds."""

    rate: float
    requests: int
    accepted: int
    refused: int  # 429 and 503
    failed: int  # any other status
    lost: int
    hanging: int
    locations_per_s: float
    p99: float  # of the accepted


@dataclass(frozen=True)
class Figures:
    """`unloaded_p50`: seconds, of requests one after the other. `tuning`: the options of the server."""

    server: str
    kind: str
    format: str
    users: int
    tuning: str
    locations_per_s: float  # sustained, at p99 <= 20 ms and nothing failing
    most_locations_per_s: float  # highest of any run, at any latency, refusals allowed
    unloaded_p50: float
    half: Half
    overload: Overload
    generator_share: float  # of one core, at the overload


class Attack:
    """A server and a load for it. A load whose requests may be sent once only gets a fresh server when it runs out."""

    def __init__(self, generator: Path, command: Command, load: Load) -> None:
        self._generator, self._command, self._load = generator, command, load
        self._stack = contextlib.ExitStack()
        self._next = 0
        self.most = 0.0  # locations a second, highest of any run so far
        self.server: Server

    def start(self) -> None:
        self._stack.close()
        self._next = 0
        self.server = self._stack.enter_context(running(self._command))
        self._warm_up()

    def close(self) -> None:
        self._stack.close()

    def fire(self, rate: float, seconds: float, fewest: int) -> Answers:
        """Sends requests for `seconds`, or for up to three times as long if that would be fewer than `fewest`."""
        requests, count = self._load.requests, self.make_room(rate, seconds, fewest)
        first, self._next = self._next, self._next + count
        answers = fire(self._generator, self.server.port, requests, rate, count, first, PROBLEM)
        self.most = max(self.most, answers.located / answers.seconds)
        return answers

    def make_room(self, rate: float, seconds: float, fewest: int) -> int:
        """How many requests `fire` would send. Starts a fresh server if a load with `once` has too few left."""
        count = max(round(rate * seconds), min(fewest, round(_PATIENCE * rate * seconds)), _FEWEST)
        if self._load.once:
            count = min(count, self._load.requests.count)
            if self._next + count > self._load.requests.count:
                self.start()
        return count

    def _warm_up(self) -> None:
        """Sends every request twice, slowly, to fill all caches."""
        warmup = self._load.warmup
        rate = max(1.0, 40.0 / warmup.users)
        port = self.server.port
        deadline = time.monotonic() + _LOADING_S
        while time.monotonic() < deadline:  # loading a very large cell takes longer than the generator's timeout
            if fire(self._generator, port, warmup, rate, warmup.count, marker=PROBLEM).located:
                break
        answers = fire(self._generator, port, warmup, 2 * rate, warmup.count, marker=PROBLEM)
        if not answers.located:
            raise NotAnswering(f"{self.server.name} located nobody: {answers.status_counts()}")


class NotAnswering(RuntimeError):
    """The server is up but locates nobody."""


@contextlib.contextmanager
def attack(generator: Path, command: Command, load: Load) -> Iterator[Attack]:
    one = Attack(generator, command, load)
    try:
        one.start()
        yield one
    finally:
        one.close()


def measure(generator: Path, command: Command, load: Load, pace: Pace, tuning: str = "") -> Figures:
    """All figures of one load. Raises `NotStarted`, `NotAnswering` or `GeneratorFailed`."""
    with attack(generator, command, load) as target:
        unloaded = one_by_one(target, pace)
        sustained = sustained_rate(target, pace, 0.5 / unloaded) if unloaded <= LATENCY_S else 0.0
        half_rate = sustained / 2 or 0.5 / unloaded
        half = half_load(target, half_rate, pace)
        answers = target.fire(OVERLOAD * (2 * half_rate), pace.overload_s, pace.fewest)
        saturate(target, OVERLOAD * (2 * half_rate), pace)
    return Figures(
        server=command.name,
        kind=load.kind,
        format=load.format,
        users=load.users,
        tuning=tuning,
        locations_per_s=sustained * load.users,
        most_locations_per_s=target.most,
        unloaded_p50=unloaded,
        half=half,
        overload=overload_of(answers, OVERLOAD * 2 * half_rate),
        generator_share=answers.generator_cpu_s / answers.seconds,
    )


def one_by_one(target: Attack, pace: Pace) -> float:
    """p50 in seconds of requests one after the other."""
    first = target.fire(2.0, 0.0, 0)
    return target.fire(min(20.0, 0.3 / first.quantile(0.5)), pace.trial_s / 2, 10).quantile(0.5)


def sustained_rate(target: Attack, pace: Pace, start: float, step: float = 2.0, precision: float = PRECISION) -> float:
    """Requests a second, searched as `highest_rate` does from `start`."""

    def strain(rate: float) -> float:
        answers = target.fire(rate, pace.trial_s, pace.fewest)
        return answers.quantile(0.99) / LATENCY_S if answers.complete else float("inf")

    return highest_rate(strain, start, _MOST, pace.trials, step, precision)


def saturate(target: Attack, rate: float, pace: Pace) -> None:
    """Raises the rate from `rate`, requests a second, until the server locates no more users: see `Attack.most`."""
    for _ in range(_SATURATIONS):
        before, rate = target.most, min(_MORE * rate, _MOST)
        target.fire(rate, pace.trial_s, pace.fewest)
        if target.most < _GAIN * before:
            return


def half_load(target: Attack, rate: float, pace: Pace) -> Half:
    target.make_room(rate, pace.half_load_s, pace.fewest)  # a fresh server starts before the CPU is counted
    before = target.server.usage().cpu_s
    answers = target.fire(rate, pace.half_load_s, pace.fewest)
    after = target.server.usage()
    p50, p99, p999 = (answers.quantile(q) for q in (0.5, 0.99, 0.999))
    cost = (after.cpu_s - before) / max(1, answers.located)
    return Half(rate, len(answers.rows), p50, p99, p999, cost, after.memory_bytes)


def overload_of(answers: Answers, rate: float) -> Overload:
    counts = answers.status_counts()
    named = {OK, *_REFUSALS, LOST, HANGING}
    return Overload(
        rate=rate,
        requests=len(answers.rows),
        accepted=counts.get(OK, 0),
        refused=sum(counts.get(status, 0) for status in _REFUSALS),
        failed=sum(count for status, count in counts.items() if status not in named),
        lost=counts.get(LOST, 0),
        hanging=counts.get(HANGING, 0),
        locations_per_s=answers.located / answers.seconds,
        p99=answers.quantile(0.99),
    )
