"""Latency of users at a fixed rate while an operator updates their cell without a pause."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.serving.cells import street
from benchmarks.serving.generator import OK, fire
from benchmarks.serving.servers import fingerpost, running
from benchmarks.serving.workload import PROBLEM, Load, make_load
from benchmarks.updates.operator import Operator, file_of, measured_again
from reference_db import Fingerprints

_RATE = 100.0  # requests a second
_FEWEST, _MOST = 20, 50  # fingerprints an append
_CYCLE = 10  # updates: eight appends, a deletion, a rollback
_DAY_S = 86_400.0  # between two surveys
_FIRST_DAY = 1.75e9
_PART_S = 2.0  # the load runs in parts, so that it ends soon after the updates


@dataclass(frozen=True)
class Phase:
    """Requests of one phase: latencies of located users in seconds, and the number of answers of each status."""

    name: str
    seconds: float
    requests: int
    p50: float
    p99: float
    p999: float
    most: float
    statuses: dict[str, int]


@dataclass(frozen=True)
class Latency:
    """`updates_p50`, `updates_most`: median and maximum of the seconds until an update was acknowledged."""

    store: str
    rate: float
    fingerprints: int  # before the updates
    updates: int
    updates_p50: float
    updates_most: float
    phases: list[Phase]  # before, during, after

    @property
    def ratio(self) -> float:
        """p99 during the updates over the mean of p99 before and after them."""
        before, during, after = (phase.p99 for phase in self.phases)
        return 2 * during / (before + after)


def measure_latency(
    generator: Path, store: str, database: Path | str, artifact: Path, updates: int, quiet_s: float, folder: Path
) -> Latency:
    """Raises `NotStarted`, `GeneratorFailed` or `Refused`."""
    cell, fingerprints = street(0)
    load = make_load("warm-unique", 1, "msgpack", [(cell, fingerprints)], folder)
    changes = list(_changes(fingerprints, updates))
    with running(fingerpost(database, artifact)) as server:
        operator = Operator(server.url, cell)
        operator.create(fingerprints)
        for _ in range(2):  # loads the cell and warms its tiles
            _fire(generator, server.port, load, load.warmup.count / _RATE)
        phases = [_phase("before", _fire(generator, server.port, load, quiet_s), quiet_s)]
        with ThreadPoolExecutor(1) as office:
            started = time.monotonic()
            work = office.submit(lambda: [_seconds(change, operator) for change in changes])
            parts = []
            while not work.done():
                begun = time.monotonic() - started
                part = _fire(generator, server.port, load, _PART_S)
                part["due"] += begun
                parts.append(part)
            took = work.result()
        rows = np.concatenate(parts)
        phases.append(_phase("during", rows[rows["due"] <= sum(took)], sum(took)))
        phases.append(_phase("after", _fire(generator, server.port, load, quiet_s), quiet_s))
        operator.close()
    p50, most = float(np.median(took)), max(took)
    return Latency(store, _RATE, len(fingerprints.positions), updates, p50, most, phases)


def _changes(fingerprints: Fingerprints, updates: int) -> Iterator[Callable[[Operator], int]]:
    """Appends new measurements of parts of the street, deletes some of them, and rolls back."""
    random = np.random.default_rng(0)
    cell, _ = street(0)
    for update in range(updates):
        day, made = _FIRST_DAY + update * _DAY_S, update + 1  # versions so far
        match update % _CYCLE:
            case 8:
                yield lambda operator, day=day: operator.delete_measured_before(day - 6 * _DAY_S)
            case 9:
                yield lambda operator, made=made: operator.roll_back(made - 1)
            case _:
                n = int(random.integers(_FEWEST, _MOST, endpoint=True))
                file = file_of(cell, measured_again(fingerprints, n, day, random))
                yield lambda operator, file=file: operator.append(file)


def _seconds(change: Callable[[Operator], int], operator: Operator) -> float:
    started = time.monotonic()
    change(operator)
    return time.monotonic() - started


def _fire(generator: Path, port: int, load: Load, seconds: float) -> NDArray[np.void]:
    return fire(generator, port, load.requests, _RATE, round(_RATE * seconds), marker=PROBLEM).rows


def _phase(name: str, rows: NDArray[np.void], seconds: float) -> Phase:
    located = rows["latency"][(rows["status"] == OK) & (rows["marked"] == 0)]
    p50, p99, p999, most = (float(np.quantile(located, q, method="higher")) for q in (0.5, 0.99, 0.999, 1.0))
    statuses = Counter(map(str, rows["status"].tolist()))
    return Phase(name, seconds, len(rows), p50, p99, p999, most, dict(statuses))
