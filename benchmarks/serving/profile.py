"""Where the CPU time of a location goes: ``python -m benchmarks.serving.profile``.

Loads Fingerpost at a fixed rate. Prints the CPU time of a location and, for each thread, the functions with the most
samples of py-spy. Writes the flame graph to ``var/bench/profile.svg``.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import subprocess
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.serving import cells
from benchmarks.serving.__main__ import FOLDER, prepare
from benchmarks.serving.campaign import Attack, attack
from benchmarks.serving.generator import build
from benchmarks.serving.served_models import shipped
from benchmarks.serving.servers import fingerpost
from benchmarks.serving.workload import KINDS, Kind, make_load

PY_SPY = Path(".venv-bench/bin/py-spy")  # `rivals.txt` is installed there
TOP = 10
_SAMPLES_HZ = 250
_STREETS = 1
_FEWEST = 20  # requests
_MARGIN_S = 1.0  # the load lasts this much longer than the recording
_THREADS = {"MainThread": "event loop", "mateformer": "model", "batches": "batches' threads"}
_THREAD = re.compile(r"thread \([^)]*\): (?P<name>.*?)(_\d+)?$")


class Cost(NamedTuple):
    """CPU seconds per location: of the event loop's (main) thread, and of all other threads together."""

    loop: float
    others: float


def profile(generator: Path, py_spy: Path, kind: Kind, users: int, rate: float, seconds: float, folder: Path) -> str:
    """The text of the profile. `rate`: locations a second. Writes ``profile.svg`` into the folder."""
    model = shipped()
    database = prepare(model, _STREETS, folder / model.label)
    streets = [cells.street(number) for number in range(_STREETS)]
    load = make_load(kind, users, "msgpack", streets, folder / model.label)
    with attack(generator, fingerpost(database, model.folder), load) as target:
        cost = cost_of(target, rate / users, seconds)
        raw = folder / "profile.raw"
        for format, path in (("raw", raw), ("flamegraph", folder / "profile.svg")):
            with recording(py_spy, target.server.process.pid, format, seconds, path):
                target.fire(rate / users, seconds + _MARGIN_S, _FEWEST)
    title = f"{model.name}, {kind} tiles, {users} users a request, {rate:g} locations/s"
    return f"{title}\n\n{table(cost, self_times(raw.read_text()))}"


def cost_of(target: Attack, rate: float, seconds: float) -> Cost:
    """CPU times measured without the profiler."""
    target.make_room(rate, seconds, _FEWEST)
    process = target.server.process
    before = _thread_times(process)
    located = target.fire(rate, seconds, _FEWEST).located
    spent = {thread: time - before.get(thread, 0.0) for thread, time in _thread_times(process).items()}
    loop = spent.pop(process.pid)
    return Cost(loop / located, sum(spent.values()) / located)


@contextlib.contextmanager
def recording(py_spy: Path, pid: int, format: str, seconds: float, path: Path) -> Iterator[None]:
    """Samples a process without stopping it."""
    # Blocking mode stops the process for each sample, which on few cores dominates the profile.
    words = [py_spy, "record", "--nonblocking", "--threads", "--rate", _SAMPLES_HZ, "--duration", round(seconds)]
    words += ["--format", format, "--output", path, "--pid", pid]
    with tempfile.TemporaryFile("w+") as log:
        with subprocess.Popen([str(word) for word in words], stdout=log, stderr=log) as process:
            yield
        if process.returncode:
            log.seek(0)
            raise RuntimeError(f"py-spy failed: {log.read()[-2000:]}")


def self_times(raw: str) -> dict[str, Counter[str]]:
    """Samples by thread and innermost function, from lines of ``frame;frame;frame samples``."""
    times: dict[str, Counter[str]] = defaultdict(Counter)
    for line in raw.splitlines():
        stack, _, samples = line.rpartition(" ")
        thread, *frames = stack.split(";")
        if frames and (found := _THREAD.match(thread)):
            times[found["name"]][re.sub(r":\d+\)$", ")", frames[-1])] += int(samples)
    return dict(times)


def table(cost: Cost, times: dict[str, Counter[str]]) -> str:
    """Markdown."""
    lines = [f"CPU a location: event loop {1e3 * cost.loop:.2f} ms, other threads {1e3 * cost.others:.2f} ms", ""]
    for thread, name in _THREADS.items():
        if thread in times:
            samples = times[thread].total()
            lines += [f"| {name}, {samples:,} samples | self time |", "|---|---|"]
            lines += [f"| `{frame}` | {count / samples:.1%} |" for frame, count in times[thread].most_common(TOP)]
            lines.append("")
    return "\n".join(lines)


def _thread_times(process: psutil.Process) -> dict[int, float]:
    return {thread.id: thread.user_time + thread.system_time for thread in process.threads()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Where the CPU time of a location goes.")
    parser.add_argument("--kind", choices=KINDS, default="shared", help="kind of tiles")
    parser.add_argument("--users", type=int, default=1, help="users a request")
    parser.add_argument("--rate", type=float, default=300, help="locations a second")
    parser.add_argument("--seconds", type=float, default=20)
    given = parser.parse_args()
    if not PY_SPY.exists():
        parser.error(f"no {PY_SPY}, which `make bench-profile` makes")
    print(profile(build(FOLDER), PY_SPY, given.kind, given.users, given.rate, given.seconds, FOLDER))


if __name__ == "__main__":
    main()
