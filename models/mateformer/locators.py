"""A model as a function over arrays, whoever runs it."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from models.artifact import Artifact
from models.mateformer.network import Mateformer

_Floats = NDArray[np.float32]
# As `Mateformer.forward`: csi_known, positions_known, csi, coarse, accuracy -> positions [b, q, 2]
Locate = Callable[[_Floats, _Floats, _Floats, _Floats, _Floats], _Floats]


def torch_locate(model: Mateformer, device: torch.device) -> Locate:
    model.to(device).eval()

    def locate(*inputs: _Floats) -> _Floats:
        with torch.inference_mode():
            located: _Floats = model(*(torch.from_numpy(array).to(device) for array in inputs)).cpu().numpy()
            return located

    return locate


def onnx_locate(artifact: Artifact) -> Locate:
    """The artifact's ``full`` graph: what is measured is what ships."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count() or 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other work may want the cores
    session = onnxruntime.InferenceSession(artifact.graphs["full"], options, providers=["CPUExecutionProvider"])
    names = ("csi_known", "positions_known", "csi", "coarse", "accuracy")

    def locate(*inputs: _Floats) -> _Floats:
        asked = artifact.manifest.graphs["full"].taken(dict(zip(names, inputs, strict=True)))
        located: _Floats = session.run(["positions"], asked)[0]
        return located

    return locate
