"""What one run of a Mateformer's graphs costs: CPU time of `describe`, `query` and `query_few` on one thread.

``python -m benchmarks.query_cost ARTIFACT...`` prints tables for 32 antennas and 32 subcarriers; the folder ``paper``
stands for a model of the paper's size with random weights, which is exported first. Values are the 20th percentile of
60 runs of random input, of all graphs in turn, so that another process on the machine hardly counts. It takes
artifacts of schema version 1 too, whose `query` describes the channel itself.

``--out FILE`` writes the tables into a file, between its lines ``<!-- measured -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.markdown import table
from benchmarks.serving.served_models import paper_size
from models.artifact.channel_transform import ChannelTransform
from reference_db.cell import AntennaArray

ARRAY, SUBCARRIERS, BANDWIDTH, CARRIER = AntennaArray(rows=1, columns=32), 32, 40e6, 3.5e9
NEIGHBOURS, RUNS, SEED = 64, 60, 0
POOL = 128  # frames: more than fit into a processor's cache
LOADS = {
    "one user": (1, 1),
    "4 in one frame": (1, 4),
    "4 in frames of their own": (4, 1),
    "8 in one frame": (1, 8),
    "8 in frames of their own": (8, 1),
    "16 in one frame": (1, 16),
    "16 in frames of their own": (16, 1),
    "64 in one frame": (1, 64),
}
PROFILED = ("one user", "16 in one frame", "16 in frames of their own")
OPERATORS = ("Gemm", "MatMul", "MatMulNBits", "Gather", "Cast", "Attention", "LayerNormalization", "Gelu")
GRAPHS = ("describe", "query", "query_few")
START, END = "<!-- measured -->", "<!-- end -->"

Feeds = dict[str, NDArray[np.generic]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifacts", type=Path, nargs="+", help="folders of artifacts, or paper")
    parser.add_argument("--out", type=Path, help="a file with the two lines, to write the tables between")
    given = parser.parse_args()
    rows, shares = [], []
    for folder in given.artifacts:
        found = paper_size(Path("var/bench")).folder if str(folder) == "paper" else folder
        for graph, figures in measure_artifact(found).items():
            rows.append([f"{folder.name}, {graph}", *(f"{figure:.2f}" for figure in figures)])
        for graph in GRAPHS[1:]:
            if (found / f"{graph}.onnx").exists():
                shares += [[f"{folder.name}, {graph}, {load}", *profile(found, graph, load)] for load in PROFILED]
    text = "\n\n".join(
        [table(["ms of CPU", *LOADS], rows), table(["% of the time in operators", *OPERATORS, "others"], shares)]
    )
    print(text)
    if given.out:
        before, _, rest = given.out.read_text().partition(START)
        given.out.write_text(f"{before}{START}\n{text}\n{END}{rest.partition(END)[2]}")


def measure_artifact(folder: Path) -> dict[str, list[float]]:
    """Milliseconds of each graph under each of the `LOADS`."""
    rng = np.random.default_rng(SEED)
    graphs = {name: open_graph(folder / f"{name}.onnx") for name in GRAPHS if (folder / f"{name}.onnx").exists()}
    pools = draw_pools(graphs["query"], rng)
    figures: dict[str, list[float]] = {name: [] for name in graphs}
    for frames, users in LOADS.values():
        feeds = draw_users(graphs, frames, users, rng)
        for name, taken in time_runs(graphs, feeds, pools, frames, rng).items():
            figures[name].append(taken)
    return figures


def open_graph(path: Path, profile_to: str | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if profile_to:
        options.enable_profiling, options.profile_file_prefix = True, profile_to
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def draw_pools(query: onnxruntime.InferenceSession, rng: np.random.Generator) -> dict[str, onnxruntime.OrtValue]:
    """Frames of random numbers."""
    given = {"csi", "features", "coarse", "accuracy", "slots"}
    pools = {}
    for spec in query.get_inputs():
        if spec.name not in given:
            shape = [{"pool": POOL, "neighbours": NEIGHBOURS}.get(size, size) for size in spec.shape]
            dtype = np.float16 if "float16" in spec.type else np.float32
            values = (1 + np.abs(rng.normal(size=shape))).astype(dtype)
            pools[spec.name] = onnxruntime.OrtValue.ortvalue_from_numpy(values)
    return pools


def draw_users(
    graphs: Mapping[str, onnxruntime.InferenceSession], frames: int, users: int, rng: np.random.Generator
) -> dict[str, Feeds]:
    """The inputs of each graph, without pools and slots."""
    csi = rng.normal(size=(frames * users, ARRAY.antennas, SUBCARRIERS, 2)).astype(np.float32)
    asked: Feeds = {
        "coarse": np.zeros((frames, users, 2), np.float32),
        "accuracy": np.full((frames, users), np.inf, np.float32),
    }
    if "describe" not in graphs:
        return {"query": asked | {"csi": csi.reshape(frames, users, *csi.shape[1:])}}
    described: Feeds = dict(make_channel(csi).feeds(csi))
    features = graphs["describe"].run(["features"], described)[0].reshape(frames, users, -1)
    return {name: described if name == "describe" else asked | {"features": features} for name in graphs}


def make_channel(csi: NDArray[np.float32]) -> ChannelTransform:
    return ChannelTransform.of(ARRAY, SUBCARRIERS, BANDWIDTH, CARRIER, None, None, csi.view(np.complex64)[..., 0])


def time_runs(
    graphs: Mapping[str, onnxruntime.InferenceSession],
    feeds: Mapping[str, Feeds],
    pools: Mapping[str, onnxruntime.OrtValue],
    frames: int,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Milliseconds of CPU time of a run of each graph; the graphs take turns, and each run reads other frames."""
    bindings = {name: graph.io_binding() for name, graph in graphs.items()}
    taken: dict[str, list[float]] = defaultdict(list)
    for _ in range(RUNS):
        for name, graph in graphs.items():
            asked = dict(feeds[name])
            if name != "describe":
                asked["slots"] = rng.permutation(POOL)[:frames]
                for pool, values in pools.items():
                    bindings[name].bind_ortvalue_input(pool, values)
            for one, value in asked.items():
                bindings[name].bind_cpu_input(one, value)
            for output in graph.get_outputs():
                bindings[name].bind_output(output.name)
            started = time.process_time()
            graph.run_with_iobinding(bindings[name])
            taken[name].append(time.process_time() - started)
    return {name: 1000 * float(np.percentile(times, 20)) for name, times in taken.items()}


def profile(folder: Path, graph: str, load: str) -> list[str]:
    """The share of each of the `OPERATORS` in the time of all, in per cent, and that of all others.

    The profiler adds a few microseconds to each operator, so many cheap ones count too much.
    """
    rng, (frames, users) = np.random.default_rng(SEED), LOADS[load]
    with tempfile.TemporaryDirectory() as scratch:
        graphs = {graph: open_graph(folder / f"{graph}.onnx", f"{scratch}/run")}
        pools = draw_pools(graphs[graph], rng)
        if (folder / "describe.onnx").exists():
            feeds = draw_users(graphs | {"describe": open_graph(folder / "describe.onnx")}, frames, users, rng)
        else:
            feeds = draw_users({"query": graphs[graph]}, frames, users, rng)
        time_runs(graphs, feeds, pools, frames, rng)
        events = json.loads(Path(graphs[graph].end_profiling()).read_text())
    durations: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            durations[event["args"]["op_name"], event["name"]].append(event["dur"])
    by_operator: dict[str, float] = defaultdict(float)
    for (operator, _), times in durations.items():
        by_operator[operator if operator in OPERATORS else "others"] += float(np.percentile(times, 20))
    whole = sum(by_operator.values())
    return [f"{100 * by_operator[operator] / whole:.0f}" for operator in (*OPERATORS, "others")]


if __name__ == "__main__":
    main()
