"""What one run of a Mateformer's graphs costs: CPU time of `describe` and `query` on one thread.

``python -m benchmarks.query_cost ARTIFACT...`` prints a table for 32 antennas and 32 subcarriers. It takes artifacts of
schema version 1 too, whose `query` describes the channel itself. Values are the 20th percentile of 60 runs of random
input, so that another process on the machine hardly counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.markdown import table
from models.artifact.channel_transform import ChannelTransform
from reference_db.cell import AntennaArray

ARRAY, SUBCARRIERS, BANDWIDTH, CARRIER = AntennaArray(rows=1, columns=32), 32, 40e6, 3.5e9
NEIGHBOURS, RUNS, SEED = 64, 60, 0
LOADS = {
    "one user": (1, 1),
    "16 in one frame": (1, 16),
    "16 in frames of their own": (16, 1),
    "64 in one frame": (1, 64),
}

Feeds = dict[str, NDArray[np.generic]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifacts", type=Path, nargs="+", help="folders of artifacts")
    rows = []
    for folder in parser.parse_args().artifacts:
        for graph, figures in measure_artifact(folder).items():
            rows.append([f"{folder.name}, {graph}", *(f"{figure:.2f}" for figure in figures)])
    print(table(["ms of CPU", *LOADS], rows))


def measure_artifact(folder: Path) -> dict[str, list[float]]:
    """Milliseconds of each graph under each of the `LOADS`."""
    rng = np.random.default_rng(SEED)
    query = open_graph(folder / "query.onnx")
    pools = draw_pools(query, rng)
    csi = rng.normal(size=(64, ARRAY.antennas, SUBCARRIERS, 2)).astype(np.float32)
    describes = (folder / "describe.onnx").exists()
    figures: dict[str, list[float]] = {"describe": [], "query": []} if describes else {"query": []}
    for frames, users in LOADS.values():
        asked = csi[: frames * users]
        feeds: Feeds = {
            "coarse": np.zeros((frames, users, 2), np.float32),
            "accuracy": np.full((frames, users), np.inf, np.float32),
            "slots": np.arange(frames),
        } | pools
        if describes:
            describe, channel = open_graph(folder / "describe.onnx"), make_channel(csi)
            inputs = channel.feeds(asked)
            features = describe.run(["features"], inputs)[0].reshape(frames, users, -1)
            figures["describe"].append(time_runs(partial(describe.run, None, inputs)))
            feeds["features"] = features
        else:
            feeds["csi"] = asked.reshape(frames, users, *asked.shape[1:])
        figures["query"].append(time_runs(partial(query.run, None, feeds)))
    return figures


def open_graph(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def draw_pools(query: onnxruntime.InferenceSession, rng: np.random.Generator) -> Feeds:
    """Frames of random numbers, as many as the largest load needs."""
    frames, given = max(frames for frames, _ in LOADS.values()), {"csi", "features", "coarse", "accuracy", "slots"}
    pools: Feeds = {}
    for spec in query.get_inputs():
        if spec.name not in given:
            shape = [{"pool": frames, "neighbours": NEIGHBOURS}.get(size, size) for size in spec.shape]
            dtype = np.float16 if "float16" in spec.type else np.float32
            pools[spec.name] = (1 + np.abs(rng.normal(size=shape))).astype(dtype)
    return pools


def make_channel(csi: NDArray[np.float32]) -> ChannelTransform:
    return ChannelTransform.of(ARRAY, SUBCARRIERS, BANDWIDTH, CARRIER, None, None, csi.view(np.complex64)[..., 0])


def time_runs(run: Callable[[], object]) -> float:
    """Milliseconds of CPU time of a run."""
    taken = []
    for _ in range(RUNS):
        started = time.process_time()
        run()
        taken.append(time.process_time() - started)
    return 1000 * float(np.percentile(taken, 20))


if __name__ == "__main__":
    main()
