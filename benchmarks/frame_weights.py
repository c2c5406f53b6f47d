"""Weights of the graph `frame` in 8 bits: what they save and what they cost, ``python -m benchmarks.frame_weights``.

`onnxruntime.quantization.quantize_dynamic` rounds the weights of each linear map by output, and its inputs by one scale
at each run. Users of three cells are located with frames of both kinds; the CPU time of a frame is measured in turns.
Writes ``benchmarks/results/frame_weights.md``; ``--quick`` prints a smoke test.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic

from benchmarks.markdown import table
from benchmarks.serving import machine
from benchmarks.serving.__main__ import FOLDER, RESULTS
from benchmarks.serving.served_models import SHIPPED, paper_size, shipped
from models.artifact import MateformerArtifact, MateformerManifest, load_artifact
from models.artifact.channel_transform import ChannelTransform
from models.mateformer.locators import OnnxLocator, Positions
from models.mateformer.measured import MeasuredCell, load_measured_cells
from reference_db.index.position import PositionIndex

SURVEYS = [
    Path(f"benchmarks/data/{name}-references.safetensors")
    for name in ("florence-0000", "florence-0001", "florence-nlos-0000")
]
SNRS_DB = (None, 20.0)
USERS, TURNS, FIX_M = 200, 15, 1.0
FLOATS = "floats"
SAMPLE, FRAMES_AT_ONCE = 256, 8
LINEAR = ["MatMul", "Gemm"]


class _Weights(NamedTuple):
    label: str
    kept: int  # linear maps that stay in floats, from the first on
    narrow: bool  # 7 bits: sums of products do not overflow on CPUs without VNNI


KINDS = (
    _Weights("8 bits", 0, narrow=False),
    _Weights("8 bits but for the map of the features", 1, narrow=False),
    _Weights("7 bits but for the map of the features", 1, narrow=True),
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Weights of the graph `frame` in 8 bits.")
    parser.add_argument("--quick", action="store_true", help="a smoke test that writes nothing")
    quick = parser.parse_args().quick
    artifact = load_artifact(SHIPPED, MateformerManifest)
    frames = {FLOATS: artifact.graphs["frame"]}
    frames |= {one.label: round_frame(artifact.graphs["frame"], one) for one in KINDS[: 1 if quick else None]}
    surveys, users = (SURVEYS[:1], 40) if quick else (SURVEYS, USERS)
    errors = [row for file in surveys for row in compare(artifact, frames, file, users)]
    models = [shipped()] if quick else [shipped(), paper_size(FOLDER)]
    costs = [
        [model.name, *time_frames(load_artifact(model.folder, MateformerManifest), 3 if quick else TURNS)]
        for model in models
    ]
    text = report(list(frames), errors, costs)
    if not quick:
        (RESULTS / "frame_weights.md").write_text(text)
    print(text)


def round_frame(content: bytes, kind: _Weights) -> bytes:
    """The graph with rounded weights."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = onnxruntime.SessionOptions()
        # The weights are casts of half-precision constants; folded, they are what can be rounded.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folder / "folded.onnx")
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        folded = onnx.load(folder / "folded.onnx")
        del folded.graph.value_info[:]
        onnx.save(folded, folder / "folded.onnx")
        linear = [node.name for node in folded.graph.node if node.op_type in LINEAR]
        quantize_dynamic(
            folder / "folded.onnx",
            folder / "rounded.onnx",
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=kind.narrow,
            op_types_to_quantize=LINEAR,
            nodes_to_exclude=linear[: kind.kept],
        )
        return (folder / "rounded.onnx").read_bytes()


def compare(artifact: MateformerArtifact, frames: dict[str, bytes], file: Path, count: int) -> list[list[str]]:
    """A row for each SNR: the mean error in metres with frames of each kind, every other user with a fix."""
    (cell,) = load_measured_cells([file])
    rows = []
    for snr_db in SNRS_DB:
        found = []
        for content in frames.values():
            locator = OnnxLocator(replace(artifact, graphs={**artifact.graphs, "frame": content}), 1)
            found.append(locate(locator, artifact.manifest.neighbourhood_size, cell, snr_db, count))
        floats, *rounded = found
        figures = [f"{floats:.4f}", *(f"{one:.4f} ({100 * (one / floats - 1):+.1f} %)" for one in rounded)]
        rows.append([cell.cell.cell_id, "clean" if snr_db is None else f"{snr_db:g} dB", *figures])
    return rows


def locate(locator: OnnxLocator, neighbours: int, cell: MeasuredCell, snr_db: float | None, count: int) -> float:
    """The mean error in metres of some fingerprints, located by the others of their cell."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(cell))
    users, known = order[:count], np.sort(order[count:])
    csi = add_noise(cell.csi, snr_db, rng)
    features = locator.describe(ChannelTransform.of_cell(cell.cell, csi[known[:SAMPLE]]), csi)
    truth = cell.positions[users]
    coarse = (truth + rng.normal(0, FIX_M, truth.shape)).astype(np.float32)
    accuracy = np.where(np.arange(count) % 2 == 0, FIX_M, np.inf).astype(np.float32)
    near = known[PositionIndex(cell.positions[known]).nearest(coarse, neighbours)[0]]
    found: list[Positions] = []
    for some in np.array_split(np.arange(count), -(-count // FRAMES_AT_ONCE)):
        frames = near[some]
        found.append(
            locator.locate(
                features[frames],
                cell.positions[frames],
                cell.sigmas[frames],
                features[users[some], None],
                coarse[some, None],
                accuracy[some, None],
            )
        )
    positions = np.concatenate([one.positions[:, 0] for one in found])
    return float(np.linalg.norm(positions - truth, axis=-1).mean())


def add_noise(csi: NDArray[np.complex64], snr_db: float | None, rng: np.random.Generator) -> NDArray[np.complex64]:
    if snr_db is None:
        return csi
    sigma = np.sqrt(np.square(np.abs(csi)).mean((1, 2), keepdims=True) / 2 * 10 ** (-snr_db / 10))
    noise = rng.normal(size=csi.shape) + 1j * rng.normal(size=csi.shape)
    return (csi + sigma * noise).astype(np.complex64)


def time_frames(artifact: MateformerArtifact, turns: int) -> list[str]:
    """CPU milliseconds of one frame, in floats and with all weights in 8 bits: the 20th percentile."""
    contents = (artifact.graphs["frame"], round_frame(artifact.graphs["frame"], KINDS[0]))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = [onnxruntime.InferenceSession(one, options, providers=["CPUExecutionProvider"]) for one in contents]
    graph, rng = artifact.manifest.graphs["frame"], np.random.default_rng(0)
    size = artifact.manifest.neighbourhood_size
    feeds = {
        one.name: np.zeros(one.sized(pool=1, batch=1, neighbours=size), one.dtype)
        for one in (*graph.inputs, *graph.pools)
    }
    for name in ("features_known", "positions_known"):
        feeds[name] = rng.normal(size=feeds[name].shape).astype(np.float32)
    taken = graph.taken(feeds)
    seconds = np.empty((turns, len(sessions)))
    for turn in range(turns):
        for number, session in enumerate(sessions):
            started = time.process_time()
            session.run(None, taken)
            seconds[turn, number] = time.process_time() - started
    return [f"{1000 * one:.2f}" for one in np.quantile(seconds, 0.2, axis=0)]


def report(kinds: list[str], errors: list[list[str]], costs: list[list[str]]) -> str:
    parts = [
        "# Weights of the graph `frame` in 8 bits",
        "    python -m benchmarks.frame_weights",
        ", ".join(f"{name} {value}" for name, value in machine.describe(None, None).items()),
        f"Mean error in metres of {USERS} users a cell, every other one with a fix of {FIX_M:g} m, in frames whose "
        "linear maps have rounded weights; `query` is the same:",
        table(["cell", "CSI", *kinds], errors),
        "Milliseconds of CPU a frame, one thread, one frame a run:",
        table(["model", FLOATS, KINDS[0].label], costs),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
