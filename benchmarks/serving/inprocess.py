"""The model without a server, in its own process: plain ONNX Runtime, and PyTorch eager.

``python -m benchmarks.serving.inprocess onnx|torch FOLDER REFERENCES SECONDS`` prints one line of JSON: a list of
`Batch`. The time includes the search for each user's neighbours, as in `full_graph`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil

from benchmarks.serving.full_graph import Floats, FullGraph, Users

NAMES = {"onnx": "ONNX Runtime, in process", "torch": "PyTorch eager, in process"}
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_FEWEST = 5  # calls

Locate = Callable[[Floats], Floats]  # rows [b, width] -> positions [b, 2]


@dataclass(frozen=True)
class Batch:
    """Calls with `size` users, one after the other. Latencies: seconds per call. Memory: of the process, at the end."""

    size: int
    p50: float
    p99: float
    p999: float
    locations_per_s: float
    cpu_s_per_location: float
    memory_bytes: int


def measure(runner: str, folder: Path, references: Path, seconds: float) -> list[Batch]:
    """Runs "onnx" or "torch" for `seconds` at each batch size. Raises `subprocess.CalledProcessError`."""
    words = ["-m", "benchmarks.serving.inprocess", runner, str(folder), str(references), str(seconds)]
    ran = subprocess.run([sys.executable, *words], check=True, stdout=subprocess.PIPE, text=True)
    return [Batch(**batch) for batch in json.loads(ran.stdout)]


def best(batches: list[Batch], latency_s: float) -> Batch | None:
    """The batch with the most locations a second and a p99 of at most `latency_s`."""
    quick = [batch for batch in batches if batch.p99 <= latency_s]
    return max(quick, key=lambda batch: batch.locations_per_s) if quick else None


def main() -> None:
    runner, folder, references, seconds = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])
    graph = FullGraph(folder / "full.onnx", references, os.cpu_count() or 1)
    locate = graph.locate if runner == "onnx" else torch_locate(folder, graph)
    rows = rows_of_references(references)
    print(json.dumps([asdict(_run(locate, rows, size, seconds)) for size in SIZES]))


def _run(locate: Locate, rows: Floats, size: int, seconds: float) -> Batch:
    process = psutil.Process()
    locate(rows[:size])
    latencies: list[float] = []
    before, started = process.cpu_times(), time.perf_counter()
    while len(latencies) < _FEWEST or time.perf_counter() - started < seconds:
        first = size * len(latencies) % (len(rows) - size)
        called = time.perf_counter()
        locate(rows[first : first + size])
        latencies.append(time.perf_counter() - called)
    elapsed, after = time.perf_counter() - started, process.cpu_times()
    located = size * len(latencies)
    cpu = after.user + after.system - before.user - before.system
    p50, p99, p999 = np.quantile(latencies, (0.5, 0.99, 0.999), method="higher").tolist()
    return Batch(size, p50, p99, p999, located / elapsed, cpu / located, process.memory_full_info().pss)


def rows_of_references(references: Path) -> Floats:
    """One user at each fingerprint of the cell, with its channel and its position as the coarse position."""
    with np.load(references) as held:
        csi, positions = held["csi"], held["positions"]
    return Users(csi, positions, np.ones(len(csi), np.float32)).to_rows()


def torch_locate(folder: Path, graph: FullGraph) -> Locate:
    import torch
    from safetensors.torch import load_file

    from models.mateformer.locators import TorchLocator
    from models.mateformer.network import Mateformer
    from models.mateformer.recipe import MateformerRecipe
    from models.pipeline.export import RECIPE_FILE, WEIGHTS_FILE

    model = Mateformer(MateformerRecipe.load(folder / RECIPE_FILE).config())
    model.load_state_dict(load_file(folder / WEIGHTS_FILE))
    located = TorchLocator(model, torch.device("cpu"))

    def locate(rows: Floats) -> Floats:
        return located.locate(**graph.feeds(rows)).positions[:, 0]

    return locate


if __name__ == "__main__":
    main()
