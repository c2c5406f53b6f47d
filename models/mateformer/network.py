"""Mateformer, the network of analogical learning (ALLoc).

Two transformers side by side. One reads the channels ``H`` and only compares them with each other; the other carries
the positions ``x`` and moves them by the weights that the comparison of channels gives (eqs. 8 and 9 of the paper).
No absolute feature of a channel ever reaches the output, so what is learnt is analogy and not places.

Shapes: ``b`` neighbourhoods, ``n`` known fingerprints, ``q`` users to infer, ``t`` tokens of either kind, ``a``
antennas, ``s`` subcarriers, ``d`` width, ``h`` heads, ``e = d / h``. CSI is real pairs ``[..., a, s, 2]``; positions
are metres.

Beyond the paper, a user's coarse position may have a say. It is no further token: its likelihood weighs the attention
to the known samples, as a prior does, and the position stream starts from it instead of from the neighbourhood's mean.
A frame knows nothing of it, so that users with and without one share frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.layers.channel_features import Channel, Reference

POSITION_SCALE = 5.0  # metres: a neighbourhood of 64 has about this radius
TRUST = (0.5, 1.0, 2.0, 4.0, 8.0)  # metres: a coarse position this accurate is half believed
FARTHEST = 4.0  # sigmas by which a coarse position misses; from there on it says nothing


@dataclass(frozen=True)
class MateformerConfig:
    antennas: int = 32
    subcarriers: int = 32
    width: int = 256  # d_model
    depth: int = 8  # N
    hidden: int = 256  # d_ff
    heads: int = 4
    raw: bool = True  # feed H itself, as the paper does
    angle_delay: float = 0.0  # feed |2-D DFT of H| too, this many bins an antenna and a subcarrier
    aligned: bool = False  # feed that of H turned back by its own mean delay too, a bin each, beside gain and delay
    coarse: bool = False  # let a user's coarse position have a say


class Coarse(NamedTuple):
    """What is known of the users beforehand."""

    position: Tensor  # [b, q, 2] metres; any finite one where there is none
    accuracy: Tensor  # [b, q] its 1-sigma error an axis, metres; infinite where there is none


class KeysValues(NamedTuple):
    """What the known samples offer a layer: to the heads that move channels, then to those that move positions."""

    K: Tensor  # [b, 2h, n, e] already divided by the root of e
    V: Tensor  # [b, 2h, n, e]


class Frame(NamedTuple):
    """A neighbourhood already encoded: all that a user's token needs of it."""

    keys_values: list[KeysValues]  # a layer
    positions: Tensor  # [b, n, 2] metres
    centre: Tensor  # [b, 2] metres
    scale: Tensor  # [b]
    clock: Tensor  # [b]


class MHead(nn.Module):
    """The weights of one multi-head attention; `Layer` runs its two side by side."""

    def __init__(self, width: int, heads: int, coarse: bool) -> None:
        super().__init__()
        self.belief = nn.Parameter(torch.zeros(heads)) if coarse else None  # in the coarse position, a head
        self.Q = nn.Linear(width, width)
        self.K = nn.Linear(width, width, bias=False)
        self.V = nn.Linear(width, width)
        self.O = nn.Linear(width, width)


class FFN(nn.Sequential):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class Layer(nn.Module):
    """One layer of both transformers: relativity among channels, and the same relativity moving positions.

    Keys and values are the known samples' only. Tokens of all neighbourhoods lie one under the other.
    """

    def __init__(self, config: MateformerConfig) -> None:
        super().__init__()
        d = config.width
        self.heads = 2 * config.heads  # of both attentions
        self.norm_h, self.norm_x = nn.LayerNorm(d), nn.LayerNorm(d)
        self.MHead_H, self.MHead_Hx = (MHead(d, config.heads, config.coarse) for _ in range(2))
        self.FFN_H, self.FFN_Hx = FFN(d, config.hidden), FFN(d, config.hidden)

    def keys_values(self, h: Tensor, x: Tensor) -> KeysValues:
        """Of the known samples' streams ``h``, ``x`` [b, n, d]."""
        h, x = self.norm_h(h), self.norm_x(x)
        H, Hx = self.MHead_H, self.MHead_Hx
        K = torch.cat([H.K(h), Hx.K(h)], dim=-1).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [b, 2h, n, e]
        V = torch.cat([H.V(h), Hx.V(x)], dim=-1).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return KeysValues(K / math.sqrt(K.shape[-1]), V)

    def forward(self, h: Tensor, x: Tensor, offered: KeysValues, prior: Tensor | None) -> tuple[Tensor, Tensor]:
        """Streams [b·t, d], moved by what is ``offered``; prior [b, t, n], the log of a likelihood, if there is one."""
        H, Hx = self.MHead_H, self.MHead_Hx
        q = self.norm_h(h)  # both attentions ask with the channel, before either stream has moved
        Q = nn.functional.linear(q, torch.cat([H.Q.weight, Hx.Q.weight]), torch.cat([H.Q.bias, Hx.Q.bias]))
        Q = Q.reshape(offered.K.shape[0], -1, self.heads, offered.K.shape[3]).transpose(1, 2)  # [b, 2h, t, e]
        believed = None  # [b, 2h, t, n]
        if prior is not None and H.belief is not None:
            believed = torch.cat([H.belief, Hx.belief])[:, None, None] * prior[:, None]
        mixed = nn.functional.scaled_dot_product_attention(Q, *offered, attn_mask=believed, scale=1.0)
        mixed = mixed.transpose(1, 2).clone(memory_format=torch.contiguous_format)  # [b, t, 2h, e]; else not exported
        mixed_h, mixed_x = mixed.flatten(2).flatten(0, 1).chunk(2, dim=-1)  # [b·t, d]
        h, x = h + H.O(mixed_h), x + Hx.O(mixed_x)  # eqs. 8, 9
        return h + self.FFN_H(h), x + self.FFN_Hx(x)


class Mateformer(nn.Module):
    """``forward`` is the paper's single pass; `frame` and `query` are its two halves, equal to it."""

    def __init__(self, config: MateformerConfig) -> None:
        super().__init__()
        self.config = config
        d = config.width
        self.channel = Channel(config.antennas, config.subcarriers, config.raw, config.angle_delay, config.aligned)
        self.embed_H = nn.Linear(self.channel.features, d)
        self.embed_x = nn.Linear(2, d)
        self.known, self.to_infer = nn.Parameter(torch.zeros(d)), nn.Parameter(torch.zeros(d))
        self.embed_coarse = nn.Linear(3 * len(TRUST), d, bias=False) if config.coarse else None
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.depth))
        self.output = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, 2))
        nn.init.normal_(self.known, std=0.02)
        nn.init.normal_(self.to_infer, std=0.02)
        if self.embed_coarse is not None:
            nn.init.zeros_(self.embed_coarse.weight)

    def forward(
        self, csi_known: Tensor, positions_known: Tensor, csi: Tensor, coarse: Tensor, accuracy: Tensor
    ) -> Tensor:
        """Where users are, [b, q, 2] metres.

        csi_known [b, n, a, s, 2], positions_known [b, n, 2], csi [b, q, a, s, 2]; coarse [b, q, 2] and accuracy [b, q]
        as in `Coarse`.
        """
        b, n = csi_known.shape[:2]
        guess, centre, reference = Coarse(coarse, accuracy), positions_known.mean(1), self.channel.reference(csi_known)
        h = self.embed_H(self.channel(torch.cat([csi_known, csi], dim=1), reference).flatten(0, 1))  # [b·(n+q), d]
        x = torch.cat([self._known(positions_known, centre), self._to_infer(guess, centre)], dim=1).flatten(0, 1)
        prior = log_likelihood(guess, positions_known)  # [b, q, n]
        everybody = nn.functional.pad(prior, (0, 0, n, 0))  # [b, n+q, n]: the known samples need none
        for layer in self.layers[:-1]:
            known = (stream.unflatten(0, (b, -1))[:, :n] for stream in (h, x))  # [b, n, d]
            h, x = layer(h, x, layer.keys_values(*known), everybody)
        last = self.layers[-1]  # where only the users move: nobody reads the known samples any more
        (h_known, h), (x_known, x) = (stream.unflatten(0, (b, -1)).tensor_split((n,), 1) for stream in (h, x))
        _, x = last(h.flatten(0, 1), x.flatten(0, 1), last.keys_values(h_known, x_known), prior)
        return self._positions(x, centre)

    def frame(self, csi_known: Tensor, positions_known: Tensor) -> Frame:
        """Encodes a neighbourhood: csi_known [b, n, a, s, 2], positions_known [b, n, 2]."""
        b, n = csi_known.shape[:2]
        centre, reference = positions_known.mean(1), self.channel.reference(csi_known)
        h = self.embed_H(self.channel(csi_known, reference).flatten(0, 1))  # [b·n, d]
        x = self._known(positions_known, centre).flatten(0, 1)
        offered = [self.layers[0].keys_values(h.unflatten(0, (b, n)), x.unflatten(0, (b, n)))]
        for layer, next_layer in pairwise(self.layers):
            h, x = layer(h, x, offered[-1], None)
            offered.append(next_layer.keys_values(h.unflatten(0, (b, n)), x.unflatten(0, (b, n))))
        return Frame(offered, positions_known, centre, *reference)

    def query(self, csi: Tensor, coarse: Coarse, frame: Frame) -> Tensor:
        """Locates users in a frame: csi [b, q, a, s, 2] -> positions [b, q, 2]."""
        h = self.embed_H(self.channel(csi, Reference(frame.scale, frame.clock)).flatten(0, 1))  # [b·q, d]
        x, prior = self._to_infer(coarse, frame.centre).flatten(0, 1), log_likelihood(coarse, frame.positions)
        for layer, offered in zip(self.layers, frame.keys_values, strict=True):
            h, x = layer(h, x, offered, prior)
        return self._positions(x, frame.centre)

    def _known(self, positions: Tensor, centre: Tensor) -> Tensor:
        return self.embed_x((positions - centre[:, None]) / POSITION_SCALE) + self.known

    def _to_infer(self, coarse: Coarse, centre: Tensor) -> Tensor:
        x_init = torch.zeros_like(coarse.position)  # the neighbourhood's mean, seen from itself
        start = self.embed_x(x_init) + self.to_infer  # [b, q, d]
        if self.embed_coarse is None:
            return start
        scale = coarse.position.new_tensor(TRUST).square()
        trust = scale / (scale + coarse.accuracy[..., None].square())  # [b, q, trusts]
        away = (coarse.position - centre[:, None]) / POSITION_SCALE  # [b, q, 2]
        believed = torch.cat([trust, trust * away[..., :1], trust * away[..., 1:]], dim=-1)
        return start + self.embed_coarse(believed)

    def _positions(self, x: Tensor, centre: Tensor) -> Tensor:
        """Out of a stream [b·q, d], around the centre [b, 2]: [b, q, 2] metres."""
        return self.output(x).reshape(centre.shape[0], -1, 2) * POSITION_SCALE + centre[:, None]


def log_likelihood(coarse: Coarse, positions: Tensor) -> Tensor:
    """That of each known position [b, n, 2] by the coarse one, [b, q, n]: zero where there is none.

    A metre stands for how far a user may be from a known sample that hears the same.
    """
    off = (coarse.position[:, :, None] - positions[:, None]).square().sum(-1)  # [b, q, n]
    return (off / -2 / (1.0 + coarse.accuracy[..., None].square())).clamp_min(-(FARTHEST**2) / 2)
