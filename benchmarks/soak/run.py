"""A soak: one service under the load of users, an operator and observers for hours."""

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

from benchmarks.soak import traffic
from benchmarks.soak.client import Request, SoakClient, Tally
from benchmarks.soak.memory import EVERY_S, Sample, Trend, sampling, trend_of
from reference_db import open_store
from service.auth.keys import Scope
from tests.service.replicas import Replica, running
from tests.service.tiny_service import added_key, bearing
from tests.service.tiny_trajectory_artifact import write_tiny_trajectory_artifact

# Rates of each thread. All threads together take a quarter of a core.
_USERS, _USERS_PER_S, _READS_PER_S, _CHANGE_EVERY_S = 2, 5.0, 0.5, 12.0
_FRAME_BYTES = 32 * 2**20  # full within the first minutes
_TOLD_EVERY_S = 60.0
_SETTINGS = {
    "frame_cache_bytes": _FRAME_BYTES,
    "body_limit_bytes": traffic.BODY_LIMIT,
    "calibration_samples": 40,
    "console_live": True,
}


@dataclass(frozen=True)
class Kind:
    """Requests of a kind, and their latencies in milliseconds."""

    name: str
    requests: int
    p50: float
    p99: float


@dataclass(frozen=True)
class SoakResult:
    """`error`: median error in metres of users with a fix; `core`: CPU time of the service as a share of one core."""

    seconds: float
    kinds: list[Kind]
    statuses: dict[str, int]
    wrong: list[str]
    versions: int
    error: float
    core: float
    trend: Trend
    samples: list[Sample]


def soak(seconds: float, artifact: Path, folder: Path) -> SoakResult:
    """Starts a service, with its database and log in `folder`, and loads it for `seconds`."""
    places = [traffic.Place.read(cell_id) for cell_id in traffic.CELLS]
    key, settings = _settings(places[0], folder)
    stop, errors = threading.Event(), list[float]()
    with ExitStack() as stack:
        replica = stack.enter_context(running(folder / "database", artifact, folder / "service.log", **settings))
        clients = _Clients(replica, bearing(key), stop)
        for place in places:  # creates the cells before users ask about them
            clients.begin(traffic.operator([place], seed=0))
        for seed in range(_USERS):
            clients.start(traffic.users(places, seed), _USERS_PER_S)
        clients.start(traffic.observers(places), _READS_PER_S)
        clients.start(traffic.operator(places, seed=1), 1 / _CHANGE_EVERY_S)
        clients.run(lambda client: errors.append(_error(client, places)), 1.0)
        with sampling(replica.process.pid, lambda: clients.tally.requests, _notify) as samples:
            clients.wait(seconds)
        stop.set()
        clients.join()
    store = open_store(folder / "database")
    versions = sum(len(store.numbers(cell_id)) for cell_id in traffic.CELLS)
    store.close()
    first, last = samples[0], samples[-1]
    return SoakResult(
        seconds=last.seconds,
        kinds=[_kind(name, times) for name, times in sorted(clients.tally.seconds.items())],
        statuses={str(status): count for status, count in sorted(clients.tally.statuses.items())},
        wrong=clients.tally.wrong,
        versions=versions,
        error=float(np.median(errors)),
        core=(last.cpu_s - first.cpu_s) / (last.seconds - first.seconds),
        trend=trend_of(samples),
        samples=samples,
    )


class _Clients:
    """Threads that each send requests at a fixed rate, with one tally."""

    def __init__(self, replica: Replica, headers: dict[str, str], stop: threading.Event) -> None:
        self._replica, self._headers, self._stop = replica, headers, stop
        self._threads: list[threading.Thread] = []
        self._failures: list[Exception] = []
        self.tally = Tally()

    def begin(self, requests: Iterator[Request]) -> None:
        """Sends the first request at once."""
        client = self._client()
        client.send(next(requests))
        client.close()

    def start(self, requests: Iterator[Request], rate: float) -> None:
        self.run(lambda client: client.send(next(requests)), rate)

    def run(self, do: Callable[[SoakClient], object], rate: float) -> None:
        """Calls `do` at `rate` per second in a thread, until the soak ends."""

        def work() -> None:
            client, due = self._client(), time.monotonic()
            try:
                while not self._stop.wait(max(0.0, due - time.monotonic())):
                    do(client)
                    # After a delay the thread goes on at its rate, without a burst.
                    due = max(due + 1 / rate, time.monotonic())
            except Exception as error:  # `join` raises it
                self._failures.append(error)
                self._stop.set()
            finally:
                client.close()

        self._threads.append(threading.Thread(target=work))
        self._threads[-1].start()

    def wait(self, seconds: float) -> None:
        """Returns after `seconds`, or as soon as a thread fails."""
        self._stop.wait(seconds)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()
        if self._failures:
            raise self._failures[0]

    def _client(self) -> SoakClient:
        return SoakClient(self._replica.port, self._headers, self.tally)


def _settings(place: traffic.Place, folder: Path) -> tuple[str, dict[str, object]]:
    cell, trajectories = place.cell, folder / "trajectories"
    channel = (cell.antennas, cell.subcarriers, cell.bandwidth, cell.carrier_frequency)
    write_tiny_trajectory_artifact(trajectories, traffic.CELLS, *channel)
    keys = folder / "keys.json"
    key = added_key(keys, get_args(Scope))
    return key, _SETTINGS | {"trajectory_artifact_directory": trajectories, "keys_file": keys}


_random = np.random.default_rng(7)


def _error(client: SoakClient, places: list[traffic.Place]) -> float:
    """The error of one user with a fix of 1 m, in metres."""
    place = places[_random.integers(len(places))]
    row = int(_random.integers(len(place.users.positions)))
    content = msgspec.json.encode(traffic.user(place, row, traffic.fix(place, row, _random)))
    one = Request("with a fix", "POST", "/locate", content, {"Content-Type": "application/json"})
    return math.dist(client.location(one), place.users.positions[row].tolist())


def _notify(sample: Sample) -> None:
    if sample.seconds % _TOLD_EVERY_S < EVERY_S:
        print(
            f"soak: {sample.seconds / 60:.0f} min: {sample.resident:.1f} MiB resident, {sample.mapped:.1f} MiB mapped; "
            f"{sample.files} files, {sample.threads} threads; {sample.requests:,} requests",
            flush=True,
        )


def _kind(name: str, seconds: list[float]) -> Kind:
    p50, p99 = 1e3 * np.quantile(seconds, [0.5, 0.99])
    return Kind(name, len(seconds), float(p50), float(p99))
