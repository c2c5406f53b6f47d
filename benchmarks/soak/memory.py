"""Samples of a process's memory, and their trend."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import numpy as np
import psutil
from scipy.stats import theilslopes

MOST_MIB_PER_H = 8.0  # 192 MiB a day: within the reserve in a replica's memory limit
MOST_MORE_HANDLES = 8  # open files and threads; connections and pools vary
EVERY_S = 5.0
_MIB = 2**20
_HOUR_S = 3600.0


@dataclass(frozen=True)
class Sample:
    """`seconds`: since the start. `resident`: MiB. `mapped`: MiB of mapped files (segments), part of `resident`."""

    seconds: float
    resident: float
    mapped: float
    files: int
    threads: int
    cpu_s: float
    requests: int


@dataclass(frozen=True)
class Trend:
    """The trend over the last two thirds of a soak.

    `slope`: the median slope of all pairs of samples, MiB per hour; `low`, `high`: its 95 % limits. `least`, `most`:
    MiB. `more_files`, `more_threads`: the median in the last third minus the median in the second third.
    """

    slope: float
    low: float
    high: float
    least: float
    most: float
    more_files: float
    more_threads: float

    @property
    def is_flat(self) -> bool:
        return self.slope < MOST_MIB_PER_H and max(self.more_files, self.more_threads) <= MOST_MORE_HANDLES


def trend_of(samples: list[Sample]) -> Trend:
    third = len(samples) // 3
    second, last = samples[third : 2 * third], samples[2 * third :]
    resident = np.array([one.resident for one in second + last])
    hours = np.array([one.seconds for one in second + last]) / _HOUR_S
    slope, _, low, high = theilslopes(resident, hours)
    return Trend(
        slope=float(slope),
        low=float(low),
        high=float(high),
        least=float(resident.min()),
        most=float(resident.max()),
        more_files=median(one.files for one in last) - median(one.files for one in second),
        more_threads=median(one.threads for one in last) - median(one.threads for one in second),
    )


@contextmanager
def sampling(pid: int, requests: Callable[[], int], notify: Callable[[Sample], None]) -> Iterator[list[Sample]]:
    """Yields a list to which a thread appends samples of the process. Calls `notify` with each sample."""
    samples: list[Sample] = []
    process, started, stop = psutil.Process(pid), time.monotonic(), threading.Event()

    def sample() -> None:
        while not stop.wait(EVERY_S):
            memory, cpu = process.memory_info(), process.cpu_times()
            samples.append(
                Sample(
                    seconds=time.monotonic() - started,
                    resident=memory.rss / _MIB,
                    mapped=memory.shared / _MIB,
                    files=process.num_fds(),
                    threads=process.num_threads(),
                    cpu_s=cpu.user + cpu.system,
                    requests=requests(),
                )
            )
            notify(samples[-1])

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()
