"""A larger network whose answers a smaller one learns beside the truth."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import torch
from torch import Tensor

from models.artifact import load_mateformer


class Teacher:
    """An exported artifact of the same antennas and subcarriers. Raises `ArtifactError` for a bad one."""

    def __init__(self, directory: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # torch wants the cores next
        artifact = load_mateformer(directory)
        self._graph = artifact.manifest.graphs["full"]
        self._session = onnxruntime.InferenceSession(
            artifact.graphs["full"], options, providers=["CPUExecutionProvider"]
        )

    def positions(
        self, csi_known: Tensor, positions_known: Tensor, csi: Tensor, coarse: Tensor, accuracy: Tensor
    ) -> Tensor:
        """As `Mateformer.forward`."""
        inputs = {
            "csi_known": csi_known,
            "positions_known": positions_known,
            "csi": csi,
            "coarse": coarse,
            "accuracy": accuracy,
        }
        taken = {name: tensor.cpu().numpy() for name, tensor in self._graph.taken(inputs).items()}
        answer = self._session.run(None, taken)[0]
        return torch.from_numpy(answer).to(csi.device)
