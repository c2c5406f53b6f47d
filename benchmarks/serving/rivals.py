"""Other servers of the same graph, and the tunings to try. The report shows the best tuning of each."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.serving.served_models import ServedModel
from benchmarks.serving.servers import Command

SERVERS = ("litserve", "bentoml")
PYTHON = Path(".venv-bench/bin/python")  # `rivals.txt` is installed there
# Workers, largest batch, batch timeout in seconds. The workers share the cores. The best of earlier runs come first.
LITSERVE = ((2, 1, 0.0), (2, 4, 0.002), (1, 1, 0.0), (1, 2, 0.001), (1, 4, 0.002), (1, 8, 0.005))
# Workers, largest batch, latency limit of a request in milliseconds.
BENTOML = ((2, 4, 200), (1, 32, 500), (1, 8, 200), (1, 4, 200), (1, 4, 50))


def commands(rival: str, model: ServedModel, references: Path) -> dict[str, Command]:
    """The commands that start one of `SERVERS`, by tuning."""
    graph = model.full_graph
    if rival == "litserve":
        return {
            f"{workers} workers, batch {batch}, {1000 * timeout:g} ms": _litserve(
                PYTHON, graph, references, workers, batch, timeout
            )
            for workers, batch, timeout in LITSERVE
        }
    width = 2 * model.antennas * model.subcarriers + 3
    return {
        f"{workers} workers, batch {batch}, {latency} ms": _bentoml(
            PYTHON, graph, references, width, workers, batch, latency
        )
        for workers, batch, latency in BENTOML
    }


def _litserve(python: Path, graph: Path, references: Path, workers: int, batch: int, timeout_s: float) -> Command:
    words = (
        str(python),
        "-m",
        "benchmarks.serving.litserve_server",
        "{port}",
        str(workers),
        str(batch),
        str(timeout_s),
    )
    return Command("LitServe", words, "/health", _environment(graph, references, workers))


def _bentoml(
    python: Path, graph: Path, references: Path, width: int, workers: int, batch: int, latency_ms: int
) -> Command:
    """`width`: numbers per user in a body."""
    words = ("-m", "bentoml", "serve", "benchmarks.serving.bentoml_service:Locate", "--host", "127.0.0.1")
    environment = _environment(graph, references, workers) | {
        "BENCH_WIDTH": str(width),
        "BENCH_WORKERS": str(workers),
        "BENCH_BATCH": str(batch),
        "BENCH_LATENCY_MS": str(latency_ms),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    return Command("BentoML", (str(python), *words, "--port", "{port}"), "/readyz", environment)


def _environment(graph: Path, references: Path, workers: int) -> dict[str, str]:
    threads = max(1, (os.cpu_count() or 1) // workers)
    return {"BENCH_GRAPH": str(graph), "BENCH_REFERENCES": str(references), "BENCH_THREADS": str(threads)}
