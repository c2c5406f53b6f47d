"""Users who walk on new ground, with and without frames encoded ahead: ``python -m benchmarks.walk``.

Each walker goes straight on at walking pace and asks twice a second, so that nearly every third request is the first in
its tile. Two real servers serve the same walkers, one after the other. Writes ``benchmarks/results/walk.md``, or
``var/bench/walk.md`` with ``--quick``, and prints the table.
"""

from __future__ import annotations

import argparse
import http.client
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.markdown import table
from benchmarks.serving import cells, machine
from benchmarks.serving.__main__ import FOLDER, RESULTS, prepare
from benchmarks.serving.served_models import ServedModel, paper_size, shipped
from benchmarks.serving.servers import Server, fingerpost, running
from benchmarks.serving.workload import CellUsers, encode_request
from reference_db import Cell, Fingerprints

PACE, ASKED_EVERY_S = 1.5, 0.5  # metres a second, seconds
WALKERS = (1, 4)
_SETTLED_S = 2.0  # after the start of a server


@dataclass(frozen=True)
class Walked:
    """Seconds of each request, and what the server counted."""

    seconds: list[float]
    misses: float
    encoded: float
    used: float

    def at(self, share: float) -> str:
        return f"{1e3 * float(np.quantile(self.seconds, share)):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Users who walk on new ground.")
    parser.add_argument("--quick", action="store_true", help="a smoke test with the shipped model and one walker")
    quick = parser.parse_args().quick
    rows = []
    for model in [shipped()] if quick else [shipped(), paper_size(FOLDER)]:
        database = prepare(model, 1, FOLDER / model.label)
        for walkers in WALKERS[:1] if quick else WALKERS:
            for ahead in (False, True):
                walked = walk(model, database, walkers, encode_ahead=ahead, most_s=10.0 if quick else 40.0)
                rows.append(describe(model, walkers, walked, encode_ahead=ahead))
    text = report(rows)
    path = (FOLDER if quick else RESULTS) / "walk.md"
    path.write_text(text)
    print(text)


def walk(model: ServedModel, database: Path, walkers: int, *, encode_ahead: bool, most_s: float) -> Walked:
    command = fingerpost(database, model.folder)
    ahead = {"FINGERPOST_ENCODE_AHEAD": str(encode_ahead).lower()}
    command = replace(command, environment={**command.environment, **ahead})
    cell, fingerprints = cells.street(0)
    paths = [draw_path(fingerprints.positions, seed, most_s) for seed in range(walkers)]
    bodies = [[encode_request(one, "msgpack") for one in users_along(cell, fingerprints, path)] for path in paths]
    with running(command) as server:
        ask(server, bodies[0][:1])  # loads the cell
        time.sleep(_SETTLED_S)
        before = read_counts(server)
        with ThreadPoolExecutor(walkers) as pool:
            seconds = [one for asked in pool.map(lambda some: ask(server, some[1:]), bodies) for one in asked]
        found = [after - earlier for after, earlier in zip(read_counts(server), before, strict=True)]
    return Walked(seconds, *found)


def draw_path(positions: NDArray[np.float32], seed: int, most_s: float) -> NDArray[np.float64]:
    """Where a walker asks, `[n, 2]` metres: straight on through the middle half of the fingerprints, and back."""
    rng = np.random.default_rng(seed)
    (west, south), (east, north) = np.quantile(positions, (0.25, 0.75), axis=0)
    start = rng.uniform((west, south), (east, north))
    course = rng.uniform(0, 2 * np.pi)
    places, step = [start], PACE * ASKED_EVERY_S * np.array([np.cos(course), np.sin(course)])
    for _ in range(int(most_s / ASKED_EVERY_S)):
        onward = places[-1] + step
        outside = (onward < (west, south)) | (onward > (east, north))
        step = np.where(outside, -step, step)  # as light at a mirror, into streets not walked yet
        places.append(places[-1] + step)
    return np.array(places)


def users_along(cell: Cell, fingerprints: Fingerprints, path: NDArray[np.float64]) -> list[CellUsers]:
    """At each place the CSI of the nearest fingerprint, and the place as the coarse position."""
    apart = np.linalg.norm(fingerprints.positions[None] - path[:, None], axis=2)
    nearest = apart.argmin(axis=1)
    return [
        CellUsers(cell.cell_id, fingerprints.csi[[row]], np.asarray(place[None], np.float32))
        for row, place in zip(nearest, path, strict=True)
    ]


def ask(server: Server, bodies: Sequence[bytes]) -> list[float]:
    """Seconds of each request. One is due every `ASKED_EVERY_S`, whenever the last was answered."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    seconds, started = [], time.perf_counter()
    for i, body in enumerate(bodies):
        time.sleep(max(0.0, started + i * ASKED_EVERY_S - time.perf_counter()))
        sent = time.perf_counter()
        connection.request("POST", "/locate", body, {"Content-Type": "application/msgpack"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(f"the service answered {answer.status}")
        seconds.append(time.perf_counter() - sent)
    connection.close()
    return seconds


def read_counts(server: Server) -> tuple[float, float, float]:
    """Missing frames, frames encoded ahead, and frames used that were encoded ahead, since the server's start."""
    samples = server.read_metrics()

    def value(name: str, **labels: str) -> float:
        return next(one.value for one in samples if one.name == name and one.labels == labels)

    return (
        value("fingerpost_frame_cache_lookups_total", result="miss"),
        value("fingerpost_frames_ahead_total", event="encoded"),
        value("fingerpost_frames_ahead_total", event="used"),
    )


def describe(model: ServedModel, walkers: int, walked: Walked, *, encode_ahead: bool) -> list[str]:
    return [
        model.name,
        str(walkers),
        "yes" if encode_ahead else "no",
        str(len(walked.seconds)),
        f"{walked.misses:.0f}",
        f"{walked.encoded:.0f}",
        f"{walked.used:.0f}",
        walked.at(0.5),
        walked.at(0.9),
        walked.at(0.99),
    ]


def report(rows: Sequence[Sequence[str]]) -> str:
    """The results as Markdown."""
    words = ", ".join(f"{name} {value}" for name, value in machine.describe(None, None).items())
    head = (
        "model",
        "walkers",
        "ahead",
        "requests",
        "missing frames",
        "encoded ahead",
        "used",
        "p50 ms",
        "p90 ms",
        "p99 ms",
    )
    return (
        "# Users who walk on new ground\n\n"
        f"{datetime.now(UTC).date().isoformat()}. `python -m benchmarks.walk`: {words}. Walkers at {PACE} m/s in one "
        f'cell, straight on, each with a request every {ASKED_EVERY_S} s; clients and server on one machine. "ahead": '
        "whether the service encodes the tiles around those that users enter while it is idle "
        "(`FINGERPOST_ENCODE_AHEAD`).\n\n"
        f"{table(head, rows)}\n"
    )


if __name__ == "__main__":
    main()
