"""Errors of LWLM, its rivals and model-based estimators on users that training never saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.lwlm.decoders import Decoded
from models.lwlm.decoding import Lwlm, decode, fuse_stations
from models.lwlm.labels import LabelledUsers, Snapshots

USERS_AT_ONCE = 128


class Measured(NamedTuple):
    """The tested snapshots of one shape, and what a model answers."""

    drawn: Snapshots
    decoded: Decoded  # each [b, n, ...]


@dataclass(frozen=True)
class LinkErrors:
    """Absolute errors of all links, and what they depend on. Each [links]."""

    range: NDArray[np.float64]  # metres
    aoa: NDArray[np.float64]  # radians
    position: NDArray[np.float64]  # metres
    line_of_sight: NDArray[np.bool_]
    sight_right: NDArray[np.bool_]  # line of sight or its absence was recognised
    antennas: NDArray[np.int64]
    bandwidth: NDArray[np.float64]  # hertz


@dataclass(frozen=True)
class UserErrors:
    """Position errors in metres of all users with two or more stations. Each [users]."""

    fused: NDArray[np.float64]
    surest: NDArray[np.float64]  # of the station whose predicted spread is smallest
    all_in_sight: NDArray[np.bool_]


def answer_users(model: Lwlm, tested: LabelledUsers, device: torch.device) -> list[Measured]:
    """The model's answers for all snapshots, on the CPU."""
    model = model.eval().to(device)
    answered = []
    with torch.inference_mode():
        for group in tested.groups:
            for rows in torch.arange(len(group.user)).split(USERS_AT_ONCE):
                drawn = group.take(rows)
                there = drawn._replace(csi=drawn.csi.to(device), configuration=drawn.configuration.to(device))
                answered.append(Measured(drawn, Decoded(*(values.cpu() for values in decode(model, there)))))
    return answered


def measure_links(answered: list[Measured]) -> LinkErrors:
    drawn = [one.drawn for one in answered]
    pairs = [(one.decoded, one.drawn.truth) for one in answered]
    return collect_links(
        drawn,
        range=[(answer.range - truth.range).abs() for answer, truth in pairs],
        aoa=[(answer.aoa - truth.aoa).abs() for answer, truth in pairs],
        position=[(answer.position - truth.position).norm(dim=-1) for answer, truth in pairs],
        sight_right=[(answer.line_of_sight > 0) == truth.line_of_sight for answer, truth in pairs],
    )


def collect_links(
    drawn: list[Snapshots], range: list[Tensor], aoa: list[Tensor], position: list[Tensor], sight_right: list[Tensor]
) -> LinkErrors:
    """The errors [b, n] of all links that a path reaches, group by group of snapshots."""

    def gather(values: list[Tensor]) -> NDArray[np.float64]:
        return torch.cat([one[there.reached] for one, there in zip(values, drawn, strict=True)]).double().numpy()

    return LinkErrors(
        range=gather(range),
        aoa=gather(aoa),
        position=gather(position),
        sight_right=gather(sight_right) > 0,
        line_of_sight=gather([one.truth.line_of_sight for one in drawn]) > 0,
        antennas=gather([torch.full(one.reached.shape, one.csi.shape[2]) for one in drawn]).astype(np.int64),
        bandwidth=gather([one.configuration[..., 0] for one in drawn]),
    )


def measure_users(answered: list[Measured]) -> UserErrors:
    fused, surest, in_sight = [], [], []
    for drawn, decoded in answered:
        several = drawn.reached.sum(1) > 1
        joined = fuse_stations(decoded, drawn, drawn.reached)
        fused.append((joined.position - drawn.user).norm(dim=-1)[several])
        spread = decoded.covariance.diagonal(dim1=-2, dim2=-1).sum(-1).masked_fill(~drawn.reached, torch.inf)
        own = (decoded.position - drawn.truth.position).norm(dim=-1)
        surest.append(own.gather(1, spread.argmin(1, keepdim=True))[several, 0])
        in_sight.append((drawn.truth.line_of_sight | ~drawn.reached).all(1)[several])
    return UserErrors(*(torch.cat(values).numpy() for values in (fused, surest, in_sight)))


def summarise(links: LinkErrors, users: UserErrors) -> dict[str, dict[str, float]]:
    """JSON-ready mean errors by task: of all, in and out of line of sight, and of each configuration.

    ``toa`` in metres, ``aoa`` in degrees, ``single`` and ``multi`` in metres, ``los`` the share recognised.
    """
    sight = links.line_of_sight
    parts = {"all": np.ones_like(sight), "los": sight, "nlos": ~sight}
    parts |= {f"{count} antennas": links.antennas == count for count in np.unique(links.antennas)}
    parts |= {f"{hertz / 1e6:g} MHz": links.bandwidth == hertz for hertz in np.unique(links.bandwidth)}
    columns = {"toa": links.range, "aoa": np.degrees(links.aoa), "single": links.position, "los": links.sight_right}
    summary = {task: _means(values, parts) for task, values in columns.items()}
    of_users = {"all": np.ones_like(users.all_in_sight), "los": users.all_in_sight, "nlos": ~users.all_in_sight}
    summary["multi"] = _means(users.fused, of_users)
    summary["surest"] = _means(users.surest, of_users)
    return summary


def _means(values: NDArray[np.generic], parts: dict[str, NDArray[np.bool_]]) -> dict[str, float]:
    means = {name: round(float(values[part].mean()), 4) for name, part in parts.items() if part.any()}
    return means | {"median": round(float(np.median(values)), 4)}
