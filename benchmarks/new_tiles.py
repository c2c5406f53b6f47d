"""What a user of a new tile costs, in process: ``python -m benchmarks.new_tiles``.

CPU time of `Estimator.locate` for users who are each in a tile of their own that nobody was in before: right after
their cell was loaded, and with all its fingerprints described. Beside it `FullGraph`, which is what the rivals run for
each user; it describes all fingerprints at its start. They take turns, so that other work on the machine hits all.
Writes ``benchmarks/results/new_tiles.md``; ``--quick`` prints a smoke test with the shipped model.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime

import numpy as np

from benchmarks.markdown import table
from benchmarks.serving import cells, machine
from benchmarks.serving.__main__ import FOLDER, RESULTS
from benchmarks.serving.full_graph import FullGraph
from benchmarks.serving.served_models import ServedModel, paper_size, shipped
from benchmarks.serving.workload import ACCURACY_M, rows_of, spread_users
from models.artifact import MateformerManifest, load_artifact
from reference_db import CellVersion, Origin, replace_cell
from service.inference.estimator import Estimator
from service.inference.mateformer_session import MateformerSession
from service.inference.user import User
from service.telemetry.metrics import Metrics
from service.telemetry.stopwatch import Stopwatch

DISPATCHES, TURNS = (1, 4, 16), 12
FRAME_BYTES = 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description="What a user of a new tile costs.")
    parser.add_argument(
        "--quick", action="store_true", help="a smoke test with the shipped model, which writes nothing"
    )
    quick = parser.parse_args().quick
    models = [shipped()] if quick else [shipped(), paper_size(FOLDER)]
    rows = [row for model in models for row in measure(model, 2 if quick else TURNS)]
    text = report(rows)
    if not quick:
        (RESULTS / "new_tiles.md").write_text(text)
    print(text)


def measure(model: ServedModel, turns: int) -> list[list[str]]:
    """A row of the table for each size of a dispatch."""
    cell, fingerprints = cells.street(0)
    version = CellVersion.assemble(replace_cell(None, cell, fingerprints, Origin("bench", datetime.now(UTC))).contents)
    spread = spread_users(cell, fingerprints)
    csi = np.ascontiguousarray(spread.csi).view(np.float32).reshape(*spread.csi.shape, 2)
    users = [User(version, *one, ACCURACY_M) for one in zip(csi, spread.coarse, strict=True)]
    rows_of_users = rows_of(spread)
    cells.write_references(cell, fingerprints, FOLDER / "new-tiles.npz")
    full = FullGraph(model.full_graph, FOLDER / "new-tiles.npz", 1)
    artifact, rows, first = load_artifact(model.folder, MateformerManifest), [], 0
    with (
        closing(MateformerSession(artifact, 1, ["CPUExecutionProvider"])) as fresh,
        closing(MateformerSession(artifact, 1, ["CPUExecutionProvider"])) as session,
    ):
        described = Estimator(session, max(DISPATCHES), FRAME_BYTES, Metrics())
        described.ahead.note_loaded(version)
        while described.feature_bytes < 4 * artifact.manifest.features * len(version):
            described.ahead.encode_next()
        for size in DISPATCHES:
            taken: list[list[float]] = []
            for _ in range(turns):
                some = slice(first, first + size)
                first = (first + size) % (len(users) - max(DISPATCHES))
                new = Estimator(fresh, max(DISPATCHES), FRAME_BYTES, Metrics())
                new.prepare(version)
                taken.append(
                    [
                        cpu_time(lambda new=new, some=some: locate(fresh, new, users[some])),
                        cpu_time(lambda some=some: locate(session, described, users[some])),
                        cpu_time(lambda some=some: full.locate(rows_of_users[some])),
                    ]
                )
            figures = 1000 * np.percentile(taken, 20, axis=0) / size
            rows.append([model.name, str(size), *(f"{figure:.1f}" for figure in figures)])
    return rows


def locate(session: MateformerSession, estimator: Estimator, users: Sequence[User]) -> None:
    session.submit(estimator.locate, users, Stopwatch()).result()


def cpu_time(work: Callable[[], object]) -> float:
    """Seconds of all threads of the process."""
    started = time.process_time()
    work()
    return time.process_time() - started


def report(rows: Sequence[Sequence[str]]) -> str:
    """The results as Markdown."""
    words = ", ".join(f"{name} {value}" for name, value in machine.describe(None, None).items())
    head = ("model", "users at once", "cell just loaded", "fingerprints described", "full graph")
    return (
        "# A user of a new tile, in process\n\n"
        f"{datetime.now(UTC).date().isoformat()}. `python -m benchmarks.new_tiles`: {words}; other work on the "
        "machine. Milliseconds of CPU a user, 20th percentile, the three in turn. Each user is in a tile of its own "
        "that has no frame. `full graph` is what the rivals run for each user, from fingerprints described before; the "
        "other two are the service's whole `Estimator.locate`.\n\n"
        f"{table(head, rows)}\n"
    )


if __name__ == "__main__":
    main()
