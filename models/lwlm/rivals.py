"""Model-based estimators on the tested snapshots of LWLM: matched filter, MUSIC, and positions from both."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from models.baselines.matched_filter import find_first_arrival
from models.baselines.music import estimate_first_angle, estimate_strongest_angle
from models.baselines.position import fuse_positions, position_from
from models.lwlm.evaluation import UserErrors, collect_links, summarise
from models.lwlm.labels import LabelledUsers, Snapshots
from reference_db.path_features import SPEED_OF_LIGHT

SPACING = 0.5  # wavelengths

Angles = Literal["first", "strongest"]
ANGLES: tuple[Angles, ...] = get_args(Angles)


def measure_model_based(tested: LabelledUsers, angles: Angles) -> dict[str, dict[str, float]]:
    """Mean errors as in `models.lwlm.evaluation.summarise`. ``angles`` of the first path, or as in textbooks."""
    answers = [_estimate(group, angles) for group in tested.groups]
    pairs = list(zip(answers, tested.groups, strict=True))
    own = [(position - group.truth.position).norm(dim=-1) for (_, _, position), group in pairs]
    links = collect_links(
        tested.groups,
        range=[(range - group.truth.range).abs() for (range, _, _), group in pairs],
        aoa=[(aoa - group.truth.aoa).abs() for (_, aoa, _), group in pairs],
        position=own,
        sight_right=[group.truth.line_of_sight for group in tested.groups],  # they take every link for one in sight
    )
    fused = [_fuse(position, group) for (_, _, position), group in pairs]
    several = [group.reached.sum(1) > 1 for group in tested.groups]
    in_sight = [(group.truth.line_of_sight | ~group.reached).all(1) for group in tested.groups]
    first = [one.masked_fill(~group.reached, torch.inf)[:, 0] for one, group in zip(own, tested.groups, strict=True)]

    def gather(values: list[Tensor]) -> np.ndarray:
        return torch.cat([one[kept] for one, kept in zip(values, several, strict=True)]).numpy()

    users = UserErrors(gather(fused), gather(first), gather(in_sight))
    return summarise(links, users)


def _estimate(group: Snapshots, angles: Angles) -> tuple[Tensor, Tensor, Tensor]:
    """Range [b, n] in metres, angle [b, n] in radians and position [b, n, 2] in the frame of the array."""
    b, n = group.reached.shape
    csi = torch.view_as_complex(group.csi.flatten(0, 1).contiguous()).numpy()
    bandwidth, height = group.configuration.flatten(0, 1).double().numpy().T
    range, aoa = np.zeros(b * n), np.zeros(b * n)
    estimate = estimate_first_angle if angles == "first" else estimate_strongest_angle
    for hertz in np.unique(bandwidth):
        rows = bandwidth == hertz
        range[rows] = find_first_arrival(csi[rows], hertz) * SPEED_OF_LIGHT
        aoa[rows] = estimate(csi[rows], SPACING, hertz, height[rows])
    position = position_from(range, aoa, height)
    first, second, third = (torch.from_numpy(one).float().unflatten(0, (b, n)) for one in (range, aoa, position))
    return first, second, third


def _fuse(position: Tensor, group: Snapshots) -> Tensor:
    """Errors [b] of the positions of several stations together."""
    each = position.masked_fill(~group.reached[..., None], torch.nan).double().numpy()
    joined = fuse_positions(group.station.double().numpy(), group.yaw.double().numpy(), each)
    return (torch.from_numpy(joined).float() - group.user).norm(dim=-1)
