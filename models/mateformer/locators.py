"""A Mateformer as a function over arrays, run by PyTorch or by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from models.artifact import MateformerArtifact
from models.mateformer.network import Mateformer

_Floats = NDArray[np.float32]
# As `Mateformer.forward`: csi_known, positions_known, csi, coarse, accuracy -> positions [b, q, 2]
Locate = Callable[[_Floats, _Floats, _Floats, _Floats, _Floats], _Floats]


def torch_locator(model: Mateformer, device: torch.device) -> Locate:
    model.to(device).eval()

    def locate(*inputs: _Floats) -> _Floats:
        with torch.inference_mode():
            located: _Floats = model(*(torch.from_numpy(array).to(device) for array in inputs)).cpu().numpy()
            return located

    return locate


def onnx_locator(artifact: MateformerArtifact, threads: int) -> Locate:
    """Runs the artifact's graph ``full``."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # torch or NumPy use the cores next
    session = onnxruntime.InferenceSession(artifact.graphs["full"], options, providers=["CPUExecutionProvider"])
    graph = artifact.manifest.graphs["full"]
    names = ("csi_known", "positions_known", "csi", "coarse", "accuracy")

    def locate(*inputs: _Floats) -> _Floats:
        located: _Floats = session.run(["positions"], graph.taken(dict(zip(names, inputs, strict=True))))[0]
        return located

    return locate
