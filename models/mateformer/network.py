"""Mateformer, the model of analogical learning (ALLoc).

Two transformers run side by side. One reads the channels ``H`` and compares them with each other. The other carries the
positions ``x`` and moves them by the attention weights of the channels (eqs. 8 and 9 of the paper). No absolute feature
of a channel reaches the output, so the model learns analogy and not places.

Shapes: ``b`` neighbourhoods, ``n`` known fingerprints, ``q`` users to infer, ``t`` tokens of either kind, ``a``
antennas, ``s`` subcarriers, ``d`` width, ``h`` heads, ``e = d / h``. CSI is real pairs ``[..., a, s, 2]``. Positions
are metres.

Beyond the paper, a user may have a coarse position. It adds no token: its likelihood weights the attention to the known
samples, as a prior does, and the position stream starts from it instead of from the neighbourhood's mean. A frame does
not depend on it, so users with and without a coarse position share frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.layers.channel_features import ChannelFeatures, Reference

POSITION_SCALE = 5.0  # metres, about the radius of a neighbourhood of 64
ACCURACY_SCALES = (0.5, 1.0, 2.0, 4.0, 8.0)  # metres: a coarse position with this 1-sigma error gets the weight 1/2
MAX_COARSE_SIGMAS = 4.0  # the likelihood of a coarse position is constant beyond this distance


@dataclass(frozen=True)
class MateformerConfig:
    antennas: int = 32
    subcarriers: int = 32
    width: int = 256  # d_model
    depth: int = 8  # N
    hidden: int = 256  # d_ff
    heads: int = 4
    raw: bool = True  # input H itself, as in the paper
    angle_delay: float = 0.0  # input the angle-delay spectrum with this many bins per antenna and per subcarrier
    delay_compensated: bool = False  # input the delay-compensated spectrum, the gain and the relative delay
    coarse: bool = False  # input a user's coarse position


class Coarse(NamedTuple):
    """The coarse positions of the users to infer."""

    position: Tensor  # [b, q, 2] metres; any finite value for a user without a coarse position
    accuracy: Tensor  # [b, q] 1-sigma error per axis, metres; infinite for a user without a coarse position


class KeysValues(NamedTuple):
    """Keys and values of the known samples in one layer: of the channel attention, then of the position attention."""

    K: Tensor  # [b, 2h, n, e] already divided by the square root of e
    V: Tensor  # [b, 2h, n, e]


class Frame(NamedTuple):
    """An encoded neighbourhood: everything that a user's token reads."""

    keys_values: list[KeysValues]  # one per layer
    positions: Tensor  # [b, n, 2] metres
    centre: Tensor  # [b, 2] metres
    scale: Tensor  # [b]
    mean_delay: Tensor  # [b]


class MHead(nn.Module):
    """The weights of one multi-head attention. `Layer` runs its two attentions in one call."""

    def __init__(self, width: int, heads: int, coarse: bool) -> None:
        super().__init__()
        self.belief = nn.Parameter(torch.zeros(heads)) if coarse else None  # weight of the prior per head
        self.Q = nn.Linear(width, width)
        self.K = nn.Linear(width, width, bias=False)
        self.V = nn.Linear(width, width)
        self.O = nn.Linear(width, width)


class FFN(nn.Sequential):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class Layer(nn.Module):
    """One layer of both transformers.

    Keys and values come from the known samples only. The tokens of all neighbourhoods share one dimension, [b·t, d].
    """

    def __init__(self, config: MateformerConfig) -> None:
        super().__init__()
        d = config.width
        self.heads = 2 * config.heads  # both attentions
        self.norm_h, self.norm_x = nn.LayerNorm(d), nn.LayerNorm(d)
        self.MHead_H, self.MHead_Hx = (MHead(d, config.heads, config.coarse) for _ in range(2))
        self.FFN_H, self.FFN_Hx = FFN(d, config.hidden), FFN(d, config.hidden)

    def keys_values(self, h: Tensor, x: Tensor) -> KeysValues:
        """Keys and values from the known samples' streams ``h`` and ``x`` [b, n, d]."""
        h, x = self.norm_h(h), self.norm_x(x)
        H, Hx = self.MHead_H, self.MHead_Hx
        K = torch.cat([H.K(h), Hx.K(h)], dim=-1).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [b, 2h, n, e]
        V = torch.cat([H.V(h), Hx.V(x)], dim=-1).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return KeysValues(K / math.sqrt(K.shape[-1]), V)

    def forward(self, h: Tensor, x: Tensor, known: KeysValues, prior: Tensor | None) -> tuple[Tensor, Tensor]:
        """Moves the streams [b·t, d] by attention to the known samples. ``prior`` [b, t, n] is a log-likelihood."""
        H, Hx = self.MHead_H, self.MHead_Hx
        q = self.norm_h(h)  # the queries of both attentions, from the channel stream before this layer
        Q = nn.functional.linear(q, torch.cat([H.Q.weight, Hx.Q.weight]), torch.cat([H.Q.bias, Hx.Q.bias]))
        Q = Q.reshape(known.K.shape[0], -1, self.heads, known.K.shape[3]).transpose(1, 2)  # [b, 2h, t, e]
        mask = None  # [b, 2h, t, n]
        if prior is not None and H.belief is not None:
            mask = torch.cat([H.belief, Hx.belief])[:, None, None] * prior[:, None]
        mixed = nn.functional.scaled_dot_product_attention(Q, *known, attn_mask=mask, scale=1.0)
        mixed = mixed.transpose(1, 2).clone(
            memory_format=torch.contiguous_format
        )  # [b, t, 2h, e]; the exporter needs the copy
        mixed_h, mixed_x = mixed.flatten(2).flatten(0, 1).chunk(2, dim=-1)  # [b·t, d]
        h, x = h + H.O(mixed_h), x + Hx.O(mixed_x)  # eqs. 8, 9
        return h + self.FFN_H(h), x + self.FFN_Hx(x)


class Mateformer(nn.Module):
    """``forward`` is the paper's single pass. `frame` followed by `query` gives the same answer."""

    def __init__(self, config: MateformerConfig) -> None:
        super().__init__()
        self.config = config
        d = config.width
        self.channel = ChannelFeatures(
            config.antennas, config.subcarriers, config.raw, config.angle_delay, config.delay_compensated
        )
        self.embed_H = nn.Linear(self.channel.features, d)
        self.embed_x = nn.Linear(2, d)
        self.known, self.to_infer = nn.Parameter(torch.zeros(d)), nn.Parameter(torch.zeros(d))
        self.embed_coarse = nn.Linear(3 * len(ACCURACY_SCALES), d, bias=False) if config.coarse else None
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.depth))
        self.output = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, 2))
        nn.init.normal_(self.known, std=0.02)
        nn.init.normal_(self.to_infer, std=0.02)
        if self.embed_coarse is not None:
            nn.init.zeros_(self.embed_coarse.weight)

    def forward(
        self, csi_known: Tensor, positions_known: Tensor, csi: Tensor, coarse: Tensor, accuracy: Tensor
    ) -> Tensor:
        """The positions of the users to infer, [b, q, 2] metres.

        csi_known [b, n, a, s, 2], positions_known [b, n, 2], csi [b, q, a, s, 2]. coarse [b, q, 2] and accuracy [b, q]
        are the fields of `Coarse`.
        """
        b, n = csi_known.shape[:2]
        guess, centre, reference = Coarse(coarse, accuracy), positions_known.mean(1), self.channel.reference(csi_known)
        h = self.embed_H(self.channel(torch.cat([csi_known, csi], dim=1), reference).flatten(0, 1))  # [b·(n+q), d]
        x = torch.cat([self._known(positions_known, centre), self._to_infer(guess, centre)], dim=1).flatten(0, 1)
        prior = log_likelihood(guess, positions_known)  # [b, q, n]
        padded = nn.functional.pad(prior, (0, 0, n, 0))  # [b, n+q, n]: the known samples have no prior
        for layer in self.layers[:-1]:
            known = (stream.unflatten(0, (b, -1))[:, :n] for stream in (h, x))  # [b, n, d]
            h, x = layer(h, x, layer.keys_values(*known), padded)
        last = self.layers[-1]  # moves the users only: nothing reads the known samples afterwards
        (h_known, h), (x_known, x) = (stream.unflatten(0, (b, -1)).tensor_split((n,), 1) for stream in (h, x))
        _, x = last(h.flatten(0, 1), x.flatten(0, 1), last.keys_values(h_known, x_known), prior)
        return self._positions(x, centre)

    def frame(self, csi_known: Tensor, positions_known: Tensor) -> Frame:
        """Encodes a neighbourhood from csi_known [b, n, a, s, 2] and positions_known [b, n, 2]."""
        b, n = csi_known.shape[:2]
        centre, reference = positions_known.mean(1), self.channel.reference(csi_known)
        h = self.embed_H(self.channel(csi_known, reference).flatten(0, 1))  # [b·n, d]
        x = self._known(positions_known, centre).flatten(0, 1)
        keys_values = [self.layers[0].keys_values(h.unflatten(0, (b, n)), x.unflatten(0, (b, n)))]
        for layer, next_layer in pairwise(self.layers):
            h, x = layer(h, x, keys_values[-1], None)
            keys_values.append(next_layer.keys_values(h.unflatten(0, (b, n)), x.unflatten(0, (b, n))))
        return Frame(keys_values, positions_known, centre, *reference)

    def query(self, csi: Tensor, coarse: Coarse, frame: Frame) -> Tensor:
        """Locates users in a frame: csi [b, q, a, s, 2] -> positions [b, q, 2]."""
        h = self.embed_H(self.channel(csi, Reference(frame.scale, frame.mean_delay)).flatten(0, 1))  # [b·q, d]
        x, prior = self._to_infer(coarse, frame.centre).flatten(0, 1), log_likelihood(coarse, frame.positions)
        for layer, known in zip(self.layers, frame.keys_values, strict=True):
            h, x = layer(h, x, known, prior)
        return self._positions(x, frame.centre)

    def _known(self, positions: Tensor, centre: Tensor) -> Tensor:
        return self.embed_x((positions - centre[:, None]) / POSITION_SCALE) + self.known

    def _to_infer(self, coarse: Coarse, centre: Tensor) -> Tensor:
        x_init = torch.zeros_like(coarse.position)  # the neighbourhood's mean is the origin
        start = self.embed_x(x_init) + self.to_infer  # [b, q, d]
        if self.embed_coarse is None:
            return start
        variances = coarse.position.new_tensor(ACCURACY_SCALES).square()
        weight = variances / (variances + coarse.accuracy[..., None].square())  # [b, q, scales]
        offset = (coarse.position - centre[:, None]) / POSITION_SCALE  # [b, q, 2]
        weighted = torch.cat([weight, weight * offset[..., :1], weight * offset[..., 1:]], dim=-1)
        return start + self.embed_coarse(weighted)

    def _positions(self, x: Tensor, centre: Tensor) -> Tensor:
        """The output of a position stream [b·q, d] around the centre [b, 2]: [b, q, 2] metres."""
        return self.output(x).reshape(centre.shape[0], -1, 2) * POSITION_SCALE + centre[:, None]


def log_likelihood(coarse: Coarse, positions: Tensor) -> Tensor:
    """The log-likelihood of each known position [b, n, 2] given the coarse one, [b, q, n]; zero without a coarse one.

    The variance has 1 m² added: users up to a metre from a known sample have similar channels.
    """
    squared = (coarse.position[:, :, None] - positions[:, None]).square().sum(-1)  # [b, q, n]
    return (squared / -2 / (1.0 + coarse.accuracy[..., None].square())).clamp_min(-(MAX_COARSE_SIGMAS**2) / 2)
