"""A model as a function over arrays, whoever runs it."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from models.artifact import Artifact
from models.mateformer import Mateformer

# csi_known [b, n, a, s, 2], positions_known [b, n, 2], csi [b, 1, a, s, 2] float32 -> positions [b, 1, 2]
Locate = Callable[[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]


def torch_locate(model: Mateformer, device: torch.device) -> Locate:
    model.to(device).eval()

    def locate(
        csi_known: NDArray[np.float32], positions_known: NDArray[np.float32], csi: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        with torch.inference_mode():
            inputs = (torch.from_numpy(array).to(device) for array in (csi_known, positions_known, csi))
            located: NDArray[np.float32] = model(*inputs).cpu().numpy()
            return located

    return locate


def onnx_locate(artifact: Artifact) -> Locate:
    """The artifact's ``full`` graph: what is measured is what ships."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count() or 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other work may want the cores
    session = onnxruntime.InferenceSession(artifact.graphs["full"], options, providers=["CPUExecutionProvider"])

    def locate(
        csi_known: NDArray[np.float32], positions_known: NDArray[np.float32], csi: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        inputs = {"csi_known": csi_known, "positions_known": positions_known, "csi": csi}
        located: NDArray[np.float32] = session.run(["positions"], inputs)[0]
        return located

    return locate
