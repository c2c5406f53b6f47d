"""The cost of a large cell: latency of one request at a time, for cells of growing size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.serving.campaign import Pace, attack
from benchmarks.serving.cells import import_cell, town
from benchmarks.serving.served_models import ServedModel
from benchmarks.serving.servers import fingerpost
from benchmarks.serving.workload import Load, make_load, spread_users, without_coarse
from reference_db import Cell, Fingerprints

SIZES = (1_000, 10_000, 100_000, 1_000_000)
_RATE = 20.0  # requests a second: few enough to run one at a time
_RUN_S = 10.0
_NEIGHBOURHOOD = 1_000  # fingerprints that every size has: users of all sizes are at the same positions
_BYTES_A_NUMBER = 25  # memory per complex number of CSI: importing a million fingerprints took up to 21


@dataclass(frozen=True)
class Grown:
    """p50 and p99 in seconds; None if the machine's memory is too small for this size."""

    fingerprints: int
    kind: str
    p50: float | None
    p99: float | None
    memory_bytes: int | None


def grow(generator: Path, model: ServedModel, sizes: Sequence[int], pace: Pace, folder: Path) -> Iterator[Grown]:
    """For each size of the cell: users with a coarse position on warm tiles, and users without a coarse position.

    Raises `CalledProcessError` if a cell cannot be imported, and the errors of `attack`.
    """
    for size in sizes:
        needed = size * model.antennas * model.subcarriers * _BYTES_A_NUMBER
        if psutil.virtual_memory().available < needed:
            yield from (Grown(size, kind, None, None, None) for kind in ("warm-unique", "no coarse position"))
            continue
        place = folder / model.label / f"town-{size}"
        cell, fingerprints = town(size, model.antennas)
        if not (place / "database").exists():
            import_cell(cell, fingerprints, place / "unfinished", model.folder)
            (place / "unfinished").rename(place / "database")
        loads = _loads(cell, fingerprints, place)
        del fingerprints
        yield from (_measure(generator, place / "database", model, load, size, pace) for load in loads)


def _loads(cell: Cell, fingerprints: Fingerprints, folder: Path) -> list[Load]:
    near = Fingerprints(
        *(getattr(fingerprints, name)[:_NEIGHBOURHOOD] for name in ("csi", "positions", "times", "sigmas"))
    )
    users = spread_users(cell, near).part(slice(64))
    return [make_load("warm-unique", 1, "msgpack", [(cell, near)], folder), without_coarse(users, folder)]


def _measure(generator: Path, database: Path, model: ServedModel, load: Load, size: int, pace: Pace) -> Grown:
    with attack(generator, fingerpost(database, model.folder), load) as target:
        answers = target.fire(_RATE, min(_RUN_S, pace.half_load_s), pace.fewest)
        memory = target.server.usage().memory_bytes
    return Grown(size, load.kind, answers.quantile(0.5), answers.quantile(0.99), memory)


def cost(rows: Sequence[Grown], kind: str) -> float | None:
    """p50 in the largest measured cell over p50 in the smallest, minus 1; None with fewer than two sizes."""
    p50s = [row.p50 for row in rows if row.kind == kind and row.p50 is not None]
    return p50s[-1] / p50s[0] - 1 if len(p50s) > 1 else None
