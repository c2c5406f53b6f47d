"""Time until users see an update, at the replica that received it and at another one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np

from benchmarks.serving.cells import town
from benchmarks.serving.servers import fingerpost, running
from benchmarks.updates.operator import Operator, file_of, measured_again
from fingerpost import build_locate_body
from reference_db import Fingerprints

_ANTENNAS = 32  # of the shipped model's channel
_FIRST_DAY = 1.75e9
_PERIOD_S = 0.005  # between two requests
_PATIENCE_S = 600.0


@dataclass(frozen=True)
class Moments:
    """Seconds after an update was sent."""

    acknowledged: float
    here: float  # the replica that received it locates users with it
    there: float  # another replica locates users with it

    @classmethod
    def names(cls) -> dict[str, str]:
        return {"acknowledged": "acknowledged", "here": "visible here", "there": "visible on a second replica"}


@dataclass(frozen=True)
class Visibility:
    store: str
    fingerprints: int
    appended: int
    appends: list[Moments]

    def quantile(self, name: str, q: float) -> float:
        """An observed value, without interpolation."""
        return float(np.quantile([getattr(one, name) for one in self.appends], q, method="higher"))


def measure_visibility(
    store: str, database: Path | str, artifact: Path, fingerprints: int, portion: int, appends: int
) -> Visibility:
    """Raises `NotStarted` or `Refused`, or `TimeoutError` if a version never appears."""
    cell, beginning = town(fingerprints, _ANTENNAS)
    portions = [file_of(cell, later) for later in _surveys(beginning, portion, appends)]
    user = msgspec.json.encode(build_locate_body(cell.cell_id, beginning.csi[0]))
    with ExitStack() as stack:
        here, there = (stack.enter_context(running(fingerpost(database, artifact))) for _ in range(2))
        operator = Operator(here.url, cell)
        stack.callback(operator.close)
        operator.create(beginning)
        del beginning
        watches = [Watch(replica.url, user) for replica in (here, there)]
        for watch in watches:
            stack.callback(watch.close)
            watch.wait_for(1)
        return Visibility(store, fingerprints, portion, [_append(operator, file, watches) for file in portions])


def _surveys(fingerprints: Fingerprints, portion: int, appends: int) -> Iterator[Fingerprints]:
    """New measurements of parts of the town."""
    random = np.random.default_rng(0)
    side = 2 * portion
    for survey in range(appends):
        first = int(random.integers(len(fingerprints.positions) - side, endpoint=True))
        yield measured_again(_rows(fingerprints, slice(first, first + side)), portion, _FIRST_DAY + survey, random)


def _append(operator: Operator, file: bytes, watches: list[Watch]) -> Moments:
    started = time.monotonic()
    number = operator.append(file)
    acknowledged = time.monotonic()
    here, there = (watch.wait_for(number) for watch in watches)
    return Moments(acknowledged - started, here - started, there - started)


class Watch:
    """A user who sends requests to one replica and notes the version in each answer."""

    def __init__(self, url: str, body: bytes) -> None:
        self._client = httpx.Client(base_url=url, timeout=_PATIENCE_S)
        self._body = body
        self._seen: dict[int, float] = {}  # time of the first answer, by version number
        self._seen_more = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def wait_for(self, number: int) -> float:
        """The `time.monotonic` of the first answer with this version or a later one."""
        with self._seen_more:
            if not self._seen_more.wait_for(lambda: max(self._seen, default=0) >= number, _PATIENCE_S):
                raise TimeoutError(f"version {number} did not appear")
            return min(at for seen, at in self._seen.items() if seen >= number)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()

    def _watch(self) -> None:
        while not self._stop.wait(_PERIOD_S):
            answer = self._client.post("/locate", content=self._body, headers={"Content-Type": "application/json"})
            if answer.is_success:
                self._note(answer.json(), time.monotonic())

    def _note(self, located: Any, now: float) -> None:
        number = int(located["provenance"]["cellVersion"].partition("-")[0])
        if number not in self._seen:
            with self._seen_more:
                self._seen[number] = now
                self._seen_more.notify_all()


def _rows(fingerprints: Fingerprints, some: slice) -> Fingerprints:
    return Fingerprints(*(getattr(fingerprints, name)[some] for name in ("csi", "positions", "times", "sigmas")))
