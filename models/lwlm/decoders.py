"""Light decoders on LWLM's encoder: range, angle, line of sight, and position from one or several base stations.

Every decoder predicts how far off its answer may be. Anchored decoders correct the classical estimates of
`models.lwlm.anchors`; the others, as in the paper, have the encoder's features alone. Shapes as in
`models.lwlm.network`; ``n`` stations, ``c`` numbers beside the features.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.lwlm.anchors import NUMBERS, Anchors
from models.lwlm.configuration import CONFIGURATION_SIZE
from models.lwlm.network import Encoded

QUERIES = 4
# Where untrained answers lie without an anchor: among the users of a street.
DELAY_BINS = 4.0
FORWARD_M = 50.0
# Scales of what the decoders add to the anchor, or to these.
DELAY_SCALE, ANGLE_SCALE, POSITION_SCALE_M = 3.0, 0.5, 30.0
RANGE_SIGMA_M, ANGLE_SIGMA, POSITION_SIGMA_M = 5.0, 0.1, 5.0
SMALLEST_SIGMA = 0.01  # of those scales
DOUBT = 4.0  # the squared error, in units of the covariance, from which a station counts less than half
REWEIGHTINGS = 8


class Decoded(NamedTuple):
    """The answers for each snapshot, and how far off they may be (1 sigma)."""

    range: Tensor  # [b] metres, length of the first path
    range_sigma: Tensor  # [b] metres
    aoa: Tensor  # [b] radians off broadside, of the first path
    aoa_sigma: Tensor  # [b] radians
    line_of_sight: Tensor  # [b] logit
    position: Tensor  # [b, 2] metres forward and left in the frame of the array
    covariance: Tensor  # [b, 2, 2] m²
    attention: Tensor  # [b] the station's score in a fusion


class Readout(nn.Module):
    """Reads one task's numbers out of class token, attention-pooled tokens and configuration.

    The configuration also scales the hidden features: an angle or a delay in bins becomes one in physical units by a
    product, which a layer of sums can only approximate.
    """

    def __init__(self, width: int, hidden: int, numbers: int, outputs: int) -> None:
        super().__init__()
        self.scores = nn.Linear(width, QUERIES)
        self.numbers = nn.Linear(numbers, width)
        self.hidden = nn.Linear((QUERIES + 2) * width, hidden)
        self.scale = nn.Linear(numbers, hidden)
        self.out = nn.Linear(hidden, outputs)

    def features(self, encoded: Encoded, numbers: Tensor) -> Tensor:
        """numbers [b, c] -> [b, hidden]"""
        weights = self.scores(encoded.tokens).softmax(1)  # [b, t, queries]
        pooled = torch.einsum("btq,btd->bqd", weights, encoded.tokens).flatten(1)
        h = torch.relu(self.hidden(torch.cat([encoded.summary, pooled, torch.relu(self.numbers(numbers))], dim=-1)))
        return h * (1 + self.scale(numbers))

    def forward(self, encoded: Encoded, numbers: Tensor) -> Tensor:
        """numbers [b, c] -> [b, outputs]"""
        answer: Tensor = self.out(self.features(encoded, numbers))
        return answer


class Decoders(nn.Module):
    def __init__(self, width: int, hidden: int, anchored: bool, attention: bool) -> None:
        super().__init__()
        numbers = CONFIGURATION_SIZE + anchored * NUMBERS
        self.range = Readout(width, hidden, numbers, 2)
        self.aoa = Readout(width, hidden, numbers, 2)
        self.line_of_sight = Readout(width, hidden, numbers, 1)
        self.position = Readout(width, hidden, numbers, 5)
        self.attention = nn.Sequential(nn.Linear(hidden, 32), nn.Tanh(), nn.Linear(32, 1)) if attention else None
        if anchored:  # untrained decoders answer with the anchors
            for readout in (self.range, self.aoa, self.position):
                nn.init.zeros_(readout.out.weight)
                nn.init.zeros_(readout.out.bias)

    def forward(self, encoded: Encoded, numbers: Tensor, bin_m: Tensor, anchors: Anchors | None) -> Decoded:
        """numbers [b, 4] of the configuration, length of a delay bin [b] in metres"""
        if anchors is None:
            ahead = torch.stack([torch.full_like(bin_m, FORWARD_M), torch.zeros_like(bin_m)], dim=-1)
            start = bin_m * DELAY_BINS, torch.zeros_like(bin_m), ahead
        else:
            start = anchors.range, anchors.aoa, anchors.position
            numbers = torch.cat([numbers, anchors.features], dim=-1)
        bins, range_spread = self.range(encoded, numbers).unbind(-1)
        angle, angle_spread = self.aoa(encoded, numbers).unbind(-1)
        h = self.position.features(encoded, numbers)
        forward, left, *factor = self.position.out(h).unbind(-1)
        return Decoded(
            range=start[0] + bin_m * DELAY_SCALE * bins,
            range_sigma=RANGE_SIGMA_M * positive(range_spread),
            aoa=start[1] + ANGLE_SCALE * angle,
            aoa_sigma=ANGLE_SIGMA * positive(angle_spread),
            line_of_sight=self.line_of_sight(encoded, numbers)[:, 0],
            position=start[2] + POSITION_SCALE_M * torch.stack([forward, left], dim=-1),
            covariance=POSITION_SIGMA_M**2 * covariance_of(*factor),
            attention=torch.zeros_like(bin_m) if self.attention is None else self.attention(h)[:, 0],
        )


def positive(x: Tensor) -> Tensor:
    return nn.functional.softplus(x) + SMALLEST_SIGMA


def covariance_of(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """A positive definite matrix [b, 2, 2] from three free numbers [b]: L Lᵀ with L = [[a⁺, 0], [b, c⁺]]."""
    first, second = positive(a), positive(c)
    return torch.stack([first.square(), first * b, first * b, b.square() + second.square()], -1).unflatten(-1, (2, 2))


class Fused(NamedTuple):
    position: Tensor  # [b, 2] metres in the common frame
    covariance: Tensor  # [b, 2, 2] m²
    weights: Tensor  # [b, n] how much each station counted; they add up to one


def fuse(positions: Tensor, covariances: Tensor, attention: Tensor) -> Fused:
    """Joins the answers of several stations [b, n, ...] in a common frame. A station with attention -inf is absent.

    Attention pooling, direction by direction: each station counts by the softmax of its score and by its information
    (inverse covariance). One that knows the bearing well and the range badly gives its bearing. A station that sees the
    user by an echo may be sure and far off, which only the others can tell. The errors' distribution is therefore
    Cauchy's: the sum of log(1 + d²/`DOUBT`) is minimised by reweighting, from the best of the stations' own positions.
    """
    share = attention.softmax(1) * torch.isfinite(attention).sum(1, keepdim=True)  # [b, n] mean 1 of those present
    information = invert(covariances)  # [b, n, 2, 2]
    between = positions[:, :, None] - positions[:, None]  # [b, guesses, n, 2]
    squared = torch.einsum("bmni,bnij,bmnj->bmn", between, information, between)
    cost = (share[:, None] * (squared / DOUBT).log1p()).sum(-1)  # [b, guesses]
    best = cost.masked_fill(~torch.isfinite(attention), torch.inf).argmin(1)
    position = positions.gather(1, best[:, None, None].expand(-1, 1, 2))[:, 0]
    for _ in range(REWEIGHTINGS):
        off = positions - position[:, None]
        squared = torch.einsum("bni,bnij,bnj->bn", off, information, off)
        counted = (share / (1 + squared / DOUBT))[..., None, None] * information  # [b, n, 2, 2]
        covariance = invert(counted.sum(1))  # [b, 2, 2]
        position = torch.einsum("bij,bnjk,bnk->bi", covariance, counted, positions)
    weights = torch.einsum("bij,bnji->bn", covariance, counted) / 2
    return Fused(position, covariance, weights)


def invert(matrix: Tensor) -> Tensor:
    """The inverse of symmetric matrices [..., 2, 2]."""
    a, b, d = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 1]
    adjugate = torch.stack([d, -b, -b, a], dim=-1).unflatten(-1, (2, 2))
    return adjugate / (a * d - b.square())[..., None, None]


def turn_into(position: Tensor, covariance: Tensor, yaw: Tensor, station: Tensor) -> tuple[Tensor, Tensor]:
    """Answers in the frames of arrays [..., 2], [..., 2, 2] in the east-north frame of their street.

    ``yaw`` [...] in radians, ``station`` [..., 2] the place of the array in metres.
    """
    cos, sin = yaw.cos(), yaw.sin()
    R = torch.stack([cos, -sin, sin, cos], dim=-1).unflatten(-1, (2, 2))
    return station + torch.einsum("...ij,...j->...i", R, position), R @ covariance @ R.mT
