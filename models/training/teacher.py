"""A larger network whose answers a smaller one learns beside the truth."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import torch
from torch import Tensor

from models.artifact import load_artifact


class Teacher:
    """An exported artifact of the same antennas and subcarriers. Raises `ArtifactError` for a bad one."""

    def __init__(self, directory: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # torch wants the cores next
        graph = load_artifact(directory).graphs["full"]
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def positions(self, csi_known: Tensor, positions_known: Tensor, csi: Tensor) -> Tensor:
        """csi_known [b, n, a, s, 2], positions_known [b, n, 2], csi [b, q, a, s, 2] -> positions [b, q, 2]."""
        inputs = {"csi_known": csi_known, "positions_known": positions_known, "csi": csi}
        answer = self._session.run(None, {name: tensor.cpu().numpy() for name, tensor in inputs.items()})[0]
        return torch.from_numpy(answer).to(csi.device)
