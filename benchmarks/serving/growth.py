"""What a cell of many fingerprints costs: the latency of one request at a time, as a cell grows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.serving.campaign import Pace, attack
from benchmarks.serving.cells import import_cell, town
from benchmarks.serving.networks import Network
from benchmarks.serving.servers import fingerpost
from benchmarks.serving.workload import Load, make_load, strangers, without_coarse
from reference_db import Cell, Fingerprints

SIZES = (1_000, 10_000, 100_000, 1_000_000)
_RATE = 20.0  # requests a second: they hardly ever meet
_RUN_S = 10.0
_NEIGHBOURHOOD = 1_000  # fingerprints that every size has: all sizes are asked about the same places
_BYTES_A_NUMBER = 25  # of CSI: importing a million fingerprints peaked at 21


@dataclass(frozen=True)
class Grown:
    """p50 and p99 seconds; a size that this machine's memory does not hold has None."""

    fingerprints: int
    kind: str
    p50: float | None
    p99: float | None
    memory_bytes: int | None


def grow(generator: Path, network: Network, sizes: Sequence[int], pace: Pace, folder: Path) -> Iterator[Grown]:
    """Users with a coarse position, whose tiles are warm, and users without one, for each size of the cell.

    Raises `CalledProcessError` where a cell cannot be imported, and what `attack` raises.
    """
    for size in sizes:
        needed = size * network.config.antennas * network.config.subcarriers * _BYTES_A_NUMBER
        if psutil.virtual_memory().available < needed:
            yield from (Grown(size, kind, None, None, None) for kind in ("warm-unique", "no coarse position"))
            continue
        place = folder / network.label / f"town-{size}"
        cell, fingerprints = town(size, network.config.antennas)
        if not (place / "database").exists():
            import_cell(cell, fingerprints, place / "unfinished", network.folder)
            (place / "unfinished").rename(place / "database")
        loads = _loads(cell, fingerprints, place)
        del fingerprints
        yield from (_measure(generator, place / "database", network, load, size, pace) for load in loads)


def _loads(cell: Cell, fingerprints: Fingerprints, folder: Path) -> list[Load]:
    near = Fingerprints(
        *(getattr(fingerprints, name)[:_NEIGHBOURHOOD] for name in ("csi", "positions", "times", "sigmas"))
    )
    users = strangers(cell, near).part(slice(64))
    return [make_load("warm-unique", 1, "msgpack", [(cell, near)], folder), without_coarse(users, folder)]


def _measure(generator: Path, database: Path, network: Network, load: Load, size: int, pace: Pace) -> Grown:
    with attack(generator, fingerpost(database, network.folder), load) as target:
        answers = target.fire(_RATE, min(_RUN_S, pace.half_load_s), pace.fewest)
        memory = target.server.usage().memory_bytes
    return Grown(size, load.kind, answers.quantile(0.5), answers.quantile(0.99), memory)


def cost(rows: Sequence[Grown], kind: str) -> float | None:
    """p50 in the largest cell measured over that in the smallest, less 1; None of fewer than two sizes."""
    p50s = [row.p50 for row in rows if row.kind == kind and row.p50 is not None]
    return p50s[-1] / p50s[0] - 1 if len(p50s) > 1 else None
