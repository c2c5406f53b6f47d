"""How each kind of rival is built, what it minimises, and how it locates users.

Shapes: ``b`` users or neighbourhoods, ``a`` antennas, ``s`` subcarriers, ``n`` fingerprints of a neighbourhood.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.alloc.recipe import Method
from models.alloc.streets import NEIGHBOURS, Survey
from models.baselines.alloc import POSITION_UNIT, AllocMateformer
from models.baselines.in_context import InContextTransformer
from models.baselines.mfcnet import MfcNet, carrier_sequence
from models.baselines.position_cnn import PositionCnn, angle_delay_planes, csi_planes

FEWEST_KNOWN = 16  # of the paper's p in training
AT_ONCE = 64  # users located together

_Floats = NDArray[np.float32]
_Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Users:
    """``csi`` complex64 [u, a, s] as received, ``coarse`` [u, 2] metres with a 1-sigma error per axis ``accuracy``."""

    csi: NDArray[np.complex64]
    coarse: _Floats
    accuracy: float


class RivalTask(Protocol):
    def build(self) -> nn.Module: ...

    def loss(self, model: nn.Module, rng: np.random.Generator, device: torch.device) -> Tensor:
        """The mean squared error of a batch, in units of the model's own."""
        ...

    def locate(self, model: nn.Module, survey: Survey, users: Users, neighbours: int, seed: int) -> _Floats:
        """Positions [u, 2] in metres, by ``neighbours`` fingerprints of the survey where the method uses any."""
        ...


class SnapshotModel(nn.Module):
    """A data-to-label model, with the units of the streets that it learned first."""

    def __init__(self, method: Method, surveys: Sequence[Survey]) -> None:
        super().__init__()
        _, antennas, subcarriers = surveys[0].csi.shape
        self.input, self.tasks = method.input, method.tasks
        self.net: nn.Module
        if method.input == "carriers":
            self.net = MfcNet(antennas, **method.model)
        else:
            planes = 2 if method.input == "csi" else 1
            self.net = PositionCnn(planes, antennas, subcarriers, len(surveys) if method.tasks else 1)
        positions = torch.from_numpy(np.concatenate([survey.positions for survey in surveys]))
        self.register_buffer("scale", torch.tensor(np.mean([survey.scale for survey in surveys]), dtype=torch.float32))
        self.register_buffer("centre", positions.mean(0))
        self.register_buffer("spread", positions.std(0).mean())

    def forward(self, csi: Tensor, head: int = 0) -> Tensor:
        """csi complex [b, a, s] as received -> position [b, 2] in units of the spread from the centre"""
        scaled = csi / self.scale
        if self.input == "carriers":
            return self.net(carrier_sequence(scaled))
        return self.net(csi_planes(scaled) if self.input == "csi" else angle_delay_planes(scaled), head)


class SnapshotTask:
    """Data-to-label learning: one snapshot in, its position out. What a street looks like is in the weights.

    With ``tasks``, each learned street has a head of its own; other streets are located by the first.
    """

    def __init__(self, method: Method, surveys: Sequence[Survey]) -> None:
        self._method, self._surveys = method, surveys

    def build(self) -> nn.Module:
        return SnapshotModel(self._method, self._surveys)

    def loss(self, model: nn.Module, rng: np.random.Generator, device: torch.device) -> Tensor:
        share = max(2, self._method.batch // len(self._surveys))
        losses = []
        for survey in self._surveys:
            rows = rng.integers(len(survey.positions), size=share)
            csi = torch.from_numpy(survey.csi[rows] * np.complex64(survey.scale)).to(device)
            truth = (torch.from_numpy(survey.positions[rows]).to(device) - model.centre) / model.spread
            losses.append((model(csi, self._head_of(survey)) - truth).square().mean())
        return torch.stack(losses).mean()

    def locate(self, model: nn.Module, survey: Survey, users: Users, neighbours: int, seed: int) -> _Floats:
        device = next(model.parameters()).device
        found = []
        for first in range(0, len(users.csi), AT_ONCE):
            csi = torch.from_numpy(users.csi[first : first + AT_ONCE]).to(device)
            found.append((model(csi, self._head_of(survey)) * model.spread + model.centre).cpu().numpy())
        located: _Floats = np.concatenate(found)
        return located

    def _head_of(self, survey: Survey) -> int:
        names = [one.street.name for one in self._surveys]
        name = survey.street.name
        return names.index(name) if self._method.tasks and name in names else 0


class AnalogyTask:
    """ALLoc as the paper trains it: ``p`` known and ``q`` samples to infer, both drawn from a neighbourhood."""

    def __init__(self, method: Method, surveys: Sequence[Survey]) -> None:
        self._method, self._surveys = method, surveys

    def build(self) -> nn.Module:
        return AllocMateformer(_inputs(self._surveys[0]), **self._method.model)

    def loss(self, model: nn.Module, rng: np.random.Generator, device: torch.device) -> Tensor:
        survey = self._surveys[int(rng.integers(len(self._surveys)))]
        sets = draw_sets(survey, self._method, rng)  # [b, n + 1]
        n = sets.shape[1] - 1
        p, q = int(rng.integers(min(FEWEST_KNOWN, n), n + 1)), int(rng.integers(1, n + 1))
        known = rng.permuted(sets, axis=1)[:, :p]
        asked = rng.permuted(sets, axis=1)[:, :q]
        H_known, x_known = _gather(survey, known, device)
        H, x = _gather(survey, asked, device)
        return (model(H_known, x_known, H) - x).square().mean()

    def locate(self, model: nn.Module, survey: Survey, users: Users, neighbours: int, seed: int) -> _Floats:
        def infer(rows: _Rows, H: Tensor, device: torch.device) -> Tensor:
            H_known, x_known = _gather(survey, rows, device)
            return model(H_known, x_known, H)[:, 0]

        return _locate_by_references(infer, model, self._method, survey, users, neighbours, seed)


class InContextTask:
    """ICLLoc: shuffled pairs of channel and position before the channel to locate."""

    def __init__(self, method: Method, surveys: Sequence[Survey]) -> None:
        self._method, self._surveys = method, surveys

    def build(self) -> nn.Module:
        return InContextTransformer(_inputs(self._surveys[0]), NEIGHBOURS, **self._method.model)

    def loss(self, model: nn.Module, rng: np.random.Generator, device: torch.device) -> Tensor:
        survey = self._surveys[int(rng.integers(len(self._surveys)))]
        H, x = _gather(survey, rng.permuted(draw_sets(survey, self._method, rng), axis=1), device)
        return (model(H, x[:, :-1]) - x).square().mean()

    def locate(self, model: nn.Module, survey: Survey, users: Users, neighbours: int, seed: int) -> _Floats:
        order = np.random.default_rng(seed)

        def infer(rows: _Rows, H: Tensor, device: torch.device) -> Tensor:
            H_known, x_known = _gather(survey, order.permuted(rows, axis=1), device)
            return model(torch.cat([H_known, H], dim=1), x_known)[:, -1]

        most = min(neighbours, NEIGHBOURS)
        return _locate_by_references(infer, model, self._method, survey, users, most, seed)


def draw_sets(survey: Survey, method: Method, rng: np.random.Generator) -> _Rows:
    """Rows [b, n + 1]: neighbourhoods of fingerprints drawn at random, or random fingerprints of the survey."""
    if method.sampling == "neighbourhood":
        return survey.neighbourhoods[rng.integers(len(survey.positions), size=method.batch)]
    size = min(NEIGHBOURS + 1, len(survey.positions))
    return np.stack([rng.choice(len(survey.positions), size, replace=False) for _ in range(method.batch)])


def choose_references(survey: Survey, method: Method, coarse: _Floats, neighbours: int, seed: int) -> _Rows:
    """Rows [u, n] that each user is compared with."""
    n = min(neighbours, len(survey.positions))
    if method.sampling == "neighbourhood":
        return survey.index.nearest(coarse, n)[0]
    rng = np.random.default_rng(seed)
    return np.stack([rng.choice(len(survey.positions), n, replace=False) for _ in coarse])


def _locate_by_references(
    infer: Callable[[_Rows, Tensor, torch.device], Tensor],
    model: nn.Module,
    method: Method,
    survey: Survey,
    users: Users,
    neighbours: int,
    seed: int,
) -> _Floats:
    device = next(model.parameters()).device
    rows = choose_references(survey, method, users.coarse, neighbours, seed)
    found: list[Any] = []
    for first in range(0, len(rows), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        H = _reals(users.csi[part] / np.complex64(survey.scale))[:, None].to(device)  # [b, 1, F]
        found.append(infer(rows[part], H, device).cpu().numpy())
    located: _Floats = np.concatenate(found) * np.float32(POSITION_UNIT)
    return located


def _gather(survey: Survey, rows: _Rows, device: torch.device) -> tuple[Tensor, Tensor]:
    """CSI as reals [b, n, F] and positions [b, n, 2] in units of `POSITION_UNIT`."""
    csi = _reals(survey.csi[rows.ravel()]).unflatten(0, rows.shape)
    positions = torch.from_numpy(survey.positions[rows] / np.float32(POSITION_UNIT))
    return csi.to(device), positions.to(device)


def _reals(csi: NDArray[np.complex64]) -> Tensor:
    """[b, a, s] -> [b, 2 · a · s]"""
    return torch.from_numpy(np.ascontiguousarray(csi).view(np.float32).reshape(len(csi), -1))


def _inputs(survey: Survey) -> int:
    return 2 * int(np.prod(survey.csi.shape[1:]))
