"""One service, asked for hours by everybody whom it is for."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np

from benchmarks.soak import people
from benchmarks.soak.asks import Account, Ask, Asker
from benchmarks.soak.memory import EVERY_S, Sample, Trend, sampling, trend_of
from reference_db import open_store
from service.auth.keys import Scope
from tests.service.replicas import Replica, running
from tests.service.tiny_service import added_key, bearing
from tests.service.tiny_trajectory_artifact import write_tiny_trajectory_artifact

# Of each thread of users, of the operator and of those who look: a quarter of a core in all.
_USERS, _USERS_PER_S, _LOOKS_PER_S, _CHANGE_EVERY_S = 2, 5.0, 0.5, 12.0
_FRAME_BYTES = 32 * 2**20  # as many frames as come up within the first minutes
_TOLD_EVERY_S = 60.0
_SETTINGS = {
    "frame_cache_bytes": _FRAME_BYTES,
    "body_limit_bytes": people.BODY_LIMIT,
    "calibration_samples": 40,
    "console_live": True,
}


@dataclass(frozen=True)
class Kind:
    """Requests of a kind, and their times in milliseconds."""

    name: str
    requests: int
    p50: float
    p99: float


@dataclass(frozen=True)
class Hours:
    """`error`: median distance in metres of users in JSON from where they are; `core`: share of one core's time."""

    seconds: float
    kinds: list[Kind]
    statuses: dict[str, int]
    wrong: list[str]
    versions: int
    error: float
    core: float
    trend: Trend
    samples: list[Sample]


def soak(seconds: float, artifact: Path, folder: Path) -> Hours:
    """Asks a service of its own for so long; its database and its log lie in `folder`."""
    places = [people.Place.read(cell_id) for cell_id in people.CELLS]
    key, settings = _settings(places[0], folder)
    stop, errors = threading.Event(), list[float]()
    with ExitStack() as stack:
        replica = stack.enter_context(running(folder / "database", artifact, folder / "service.log", **settings))
        crowd = _Crowd(replica, bearing(key), stop)
        for place in places:  # so that nobody is asked about a cell that is not there
            crowd.begin(people.operator([place], seed=0))
        for seed in range(_USERS):
            crowd.start(people.users(places, seed), _USERS_PER_S)
        crowd.start(people.watchers(places), _LOOKS_PER_S)
        crowd.start(people.operator(places, seed=1), 1 / _CHANGE_EVERY_S)
        crowd.run(lambda asker: errors.append(_error(asker, places)), 1.0)
        with sampling(replica.process.pid, lambda: crowd.account.requests, _tell) as samples:
            crowd.wait(seconds)
        stop.set()
        crowd.join()
    store = open_store(folder / "database")
    versions = sum(len(store.numbers(cell_id)) for cell_id in people.CELLS)
    store.close()
    first, last = samples[0], samples[-1]
    return Hours(
        seconds=last.seconds,
        kinds=[_kind(name, times) for name, times in sorted(crowd.account.seconds.items())],
        statuses={str(status): count for status, count in sorted(crowd.account.statuses.items())},
        wrong=crowd.account.wrong,
        versions=versions,
        error=float(np.median(errors)),
        core=(last.cpu_s - first.cpu_s) / (last.seconds - first.seconds),
        trend=trend_of(samples),
        samples=samples,
    )


class _Crowd:
    """Threads that ask at a fixed rate each, and keep one account."""

    def __init__(self, replica: Replica, headers: dict[str, str], stop: threading.Event) -> None:
        self._replica, self._headers, self._stop = replica, headers, stop
        self._threads: list[threading.Thread] = []
        self._failures: list[Exception] = []
        self.account = Account()

    def begin(self, asks: Iterator[Ask]) -> None:
        """The first of them only, at once."""
        asker = self._asker()
        asker.ask(next(asks))
        asker.close()

    def start(self, asks: Iterator[Ask], rate: float) -> None:
        self.run(lambda asker: asker.ask(next(asks)), rate)

    def run(self, do: Callable[[Asker], object], rate: float) -> None:
        """Does it so many times a second, until all stop."""

        def work() -> None:
            asker, due = self._asker(), time.monotonic()
            try:
                while not self._stop.wait(max(0.0, due - time.monotonic())):
                    do(asker)
                    due = max(
                        due + 1 / rate, time.monotonic()
                    )  # what a busy machine missed is not made good in a burst
            except Exception as error:  # for whoever waits
                self._failures.append(error)
                self._stop.set()
            finally:
                asker.close()

        self._threads.append(threading.Thread(target=work))
        self._threads[-1].start()

    def wait(self, seconds: float) -> None:
        """Returns after so long, or as soon as somebody failed."""
        self._stop.wait(seconds)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()
        if self._failures:
            raise self._failures[0]

    def _asker(self) -> Asker:
        return Asker(self._replica.port, self._headers, self.account)


def _settings(place: people.Place, folder: Path) -> tuple[str, dict[str, object]]:
    cell, trajectories = place.cell, folder / "trajectories"
    channel = (cell.antennas, cell.subcarriers, cell.bandwidth, cell.carrier_frequency)
    write_tiny_trajectory_artifact(trajectories, people.CELLS, *channel)
    keys = folder / "keys.json"
    key = added_key(keys, get_args(Scope))
    return key, _SETTINGS | {"trajectory_artifact_directory": trajectories, "keys_file": keys}


_random = np.random.default_rng(7)


def _error(asker: Asker, places: list[people.Place]) -> float:
    """Metres between where a user is and where he is told to be, with a fix of 1 m."""
    place = places[_random.integers(len(places))]
    row = int(_random.integers(len(place.users.positions)))
    content = msgspec.json.encode(people.user(place, row, people.fix(place, row, _random)))
    one = Ask("with a fix", "POST", "/locate", content, {"Content-Type": "application/json"})
    return math.dist(asker.location(one), place.users.positions[row].tolist())


def _tell(sample: Sample) -> None:
    if sample.seconds % _TOLD_EVERY_S < EVERY_S:
        print(
            f"soak: {sample.seconds / 60:.0f} min: {sample.resident:.1f} MiB, {sample.mapped:.1f} of them mapped; "
            f"{sample.files} files, {sample.threads} threads; {sample.requests:,} requests",
            flush=True,
        )


def _kind(name: str, seconds: list[float]) -> Kind:
    p50, p99 = 1e3 * np.quantile(seconds, [0.5, 0.99])
    return Kind(name, len(seconds), float(p50), float(p99))
