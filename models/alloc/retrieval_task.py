"""RA-LWLM's head on frozen LWLM features, as a rival."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.alloc.recipe import Method
from models.alloc.streets import Survey
from models.alloc.tasks import AT_ONCE, Users
from models.artifact import LwlmManifest, load_artifact
from models.baselines.retrieval_head import RetrievalHead

ENCODER = Path(__file__).parents[1] / "artifacts" / "lwlm"
RETRIEVED = 16  # the K most similar fingerprints

_Floats = NDArray[np.float32]


class RetrievalTask:
    """Each fingerprint is located by the others that are most similar to it, in training; users by all."""

    def __init__(self, method: Method, surveys: Sequence[Survey]) -> None:
        self._method = method
        self._features = {survey.street.name: embed(survey.csi) for survey in surveys}
        self._surveys = surveys
        every = np.concatenate(list(self._features.values()))
        self._mean, self._deviation = every.mean(0), every.std(0) + 1e-6

    @cached_property
    def _learned(self) -> list[tuple[_Floats, NDArray[np.int64]]]:
        """Whitened features and the most similar fingerprints of each learned survey, for training only."""
        features = [self._whitened(survey) for survey in self._surveys]
        return [(one, _rank(one)) for one in features]

    def build(self) -> nn.Module:
        return RetrievalHead(len(self._mean), **self._method.model)

    def loss(self, model: nn.Module, rng: np.random.Generator, device: torch.device) -> Tensor:
        number = int(rng.integers(len(self._surveys)))
        survey = self._surveys[number]
        rows = rng.integers(len(survey.positions), size=self._method.batch)
        features, most_similar = self._learned[number]
        nearest = most_similar[rows]  # [b, K], without the fingerprint itself
        parts = (features[rows], features[nearest], survey.positions[nearest])
        found = model(*(torch.from_numpy(part).to(device) for part in parts))
        return (found - torch.from_numpy(survey.positions[rows]).to(device)).square().mean()

    def locate(self, model: nn.Module, survey: Survey, users: Users, neighbours: int, seed: int) -> _Floats:
        device = next(model.parameters()).device
        references = torch.from_numpy(self._whitened(survey)).to(device)
        places = torch.from_numpy(survey.positions).to(device)
        asked = (embed(users.csi) - self._mean) / self._deviation
        found = []
        for first in range(0, len(asked), AT_ONCE):
            query = torch.from_numpy(asked[first : first + AT_ONCE]).to(device)
            rows = torch.cdist(query, references).topk(RETRIEVED, largest=False).indices
            found.append(model(query, references[rows], places[rows]).cpu().numpy())
        located: _Floats = np.concatenate(found)
        return located

    def _whitened(self, survey: Survey) -> _Floats:
        name = survey.street.name
        known = self._features.get(name)
        if known is None or len(known) != len(survey.positions):
            known = self._features[name] = embed(survey.csi)
        scaled: _Floats = (known - self._mean) / self._deviation
        return scaled


def embed(csi: NDArray[np.complex64]) -> _Floats:
    """The frozen encoder's features of snapshots [n, a, s]: float32 [n, F]."""
    session = _load_encoder()
    pairs = np.ascontiguousarray(csi)[..., None].view(np.float32)  # [n, a, s, 2]
    found = []
    for first in range(0, len(pairs), AT_ONCE):
        part = pairs[first : first + AT_ONCE]
        configuration = np.tile(np.array([[40e6, 10.0]], np.float32), (len(part), 1))  # does not change the embedding
        found.append(session.run(["embedding"], {"csi": part, "configuration": configuration})[0])
    features: _Floats = np.concatenate(found)
    return features


@cache
def _load_encoder() -> onnxruntime.InferenceSession:
    artifact = load_artifact(ENCODER, LwlmManifest)
    return onnxruntime.InferenceSession(artifact.graphs["full"], providers=["CPUExecutionProvider"])


def _rank(features: _Floats) -> NDArray[np.int64]:
    """Rows [r, K] of the fingerprints most similar to each, without itself."""
    squared = np.square(features).sum(1)
    distance = squared[:, None] + squared - 2 * features @ features.T
    np.fill_diagonal(distance, np.inf)
    nearest: NDArray[np.int64] = np.argpartition(distance, RETRIEVED, axis=1)[:, :RETRIEVED]
    return nearest
