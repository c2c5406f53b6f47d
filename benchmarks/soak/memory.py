"""A process' memory over time, and whether it grows."""

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

MOST_MIB_PER_H = 8.0  # 192 MiB a day: what a replica's limit of memory has to spare, so that it is seen before it hurts
MOST_MORE_HANDLES = 8  # open files and threads; connections and pools come and go
EVERY_S = 5.0
_MIB = 2**20
_HOUR_S = 3600.0


@dataclass(frozen=True)
class Sample:
    """`seconds` since the start; MiB. `mapped`: pages of files, as segments of a directory are, part of `resident`."""

    seconds: float
    resident: float
    mapped: float
    files: int
    threads: int
    cpu_s: float
    requests: int


@dataclass(frozen=True)
class Trend:
    """Over the last two thirds. `slope`, MiB an hour: the median of those between all pairs of samples; `low`, `high`:
    its 95 % limits. `least` and `most` MiB; how many more files and threads there were in the last third than in the
    second, medians."""

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
def sampling(pid: int, requests: Callable[[], int], tell: Callable[[Sample], None]) -> Iterator[list[Sample]]:
    """Samples of a process, more and more of them, until one leaves; `tell` hears of each."""
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
            tell(samples[-1])

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()
