"""Rivals that are servers, and every way in which they are tried: the best one is the one shown."""

from __future__ import annotations

from pathlib import Path

from benchmarks.serving.networks import Network
from benchmarks.serving.servers import Command, bentoml, litserve

SERVERS = ("litserve", "bentoml")
PYTHON = Path(".venv-bench/bin/python")  # `rivals.txt` is installed there
# Workers, requests gathered at most, and for how long (seconds): the cores are shared out among the workers.
LITSERVE = ((1, 1, 0.0), (2, 1, 0.0), (1, 2, 0.001), (1, 4, 0.002), (1, 8, 0.005), (2, 4, 0.002))
# Workers, users gathered at most, and what that may cost a request (milliseconds).
BENTOML = ((1, 4, 50), (1, 4, 200), (1, 8, 200), (1, 32, 500), (2, 4, 200))


def commands(rival: str, network: Network, references: Path) -> dict[str, Command]:
    """Every way to start one of `SERVERS`, by its tuning."""
    graph = network.full_graph
    if rival == "litserve":
        return {
            f"{workers} workers, batch {batch}, {1000 * timeout:g} ms": litserve(
                PYTHON, graph, references, workers, batch, timeout
            )
            for workers, batch, timeout in LITSERVE
        }
    width = 2 * network.config.antennas * network.config.subcarriers + 3
    return {
        f"{workers} workers, batch {batch}, {latency} ms": bentoml(
            PYTHON, graph, references, width, workers, batch, latency
        )
        for workers, batch, latency in BENTOML
    }
