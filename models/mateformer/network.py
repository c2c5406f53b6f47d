"""Mateformer, the model of analogical learning (ALLoc).

Two transformers run side by side. One reads the channels ``H`` and compares them with each other. The other carries the
positions ``x`` and moves them by the attention weights of the channels (eqs. 8 and 9 of the paper). No absolute feature
of a channel reaches the output, so the model learns analogy and not places.

Shapes: ``b`` neighbourhoods, ``n`` known fingerprints, ``q`` users to infer, ``t`` tokens of either kind, ``F``
features of a channel (`models.layers.channel_features`), ``d`` width, ``h`` heads, ``e = d / h``. Positions are metres.

Beyond the paper:

- Positions are in units of the neighbourhood's own spread, so that dense and sparse surveys look alike.
- A user may have a coarse position. It adds no token: its likelihood weights the attention to the known samples, as a
  prior does, and the position stream starts from it. A frame does not depend on it, so users with and without a coarse
  position share frames.
- The output is a position and its precision matrix. The coarse position is a second measurement: the two are fused by
  their covariances, and the model says how much of the coarse position's stated precision it believes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.layers.channel_features import ABSOLUTE, ELEVATION, FEATURES, LEVELS, RELATIVE, SPECTRA, describe_channel

ACCURACY_SCALES = (0.125, 0.25, 0.5, 1.0, 2.0)  # in spreads: a coarse position with this 1-sigma error weighs 1/2
MAX_COARSE_SIGMAS = 4.0  # the likelihood of a coarse position is constant beyond this distance
MAX_OFFSET = 10.0  # in spreads: coarse positions and relative delays farther off look alike
SIMILAR_WITHIN = 1 / 3  # in spreads: users this far from a known sample have similar channels
SMALLEST_SPREAD = 0.1  # metres
SMALLEST_ACCURACY = 0.01  # metres, that a coarse position is believed to have
PRECISION_SCALE = 0.2  # in spreads: the 1-sigma error that an output of zero stands for
LOG_PRECISIONS = (-4.0, 7.0)  # bounds of the logarithms on the diagonal of the precision's Cholesky factor

# Errors are modelled as bivariate Student-t with this many degrees of freedom. The covariance that is put out is that
# of the Gaussian with the same 95 % ellipse: the squared radii are 2 F(0.95; 2, 4) = 13.889 and 5.991.
DEGREES_OF_FREEDOM = 4
AS_GAUSSIAN = 13.889 / 5.991


@dataclass(frozen=True)
class MateformerConfig:
    width: int = 256  # d_model
    depth: int = 8  # N
    hidden: int = 256  # d_ff
    heads: int = 4
    absolute: bool = True  # whether the model sees the absolute, the relative and the elevation spectrum
    relative: bool = True
    elevation: bool = True
    ellipse: float = 1.0  # multiplies the covariances that the artifact puts out


class Coarse(NamedTuple):
    """The coarse positions of the users to infer."""

    position: Tensor  # [b, q, 2] metres; any finite value for a user without a coarse position
    accuracy: Tensor  # [b, q] 1-sigma error per axis, metres; infinite for a user without a coarse position


class Estimates(NamedTuple):
    """Positions, and the precision matrices [[a, c], [c, d]] of the Student-t distributions of their errors."""

    position: Tensor  # [b, q, 2] metres
    precision: Tensor  # [b, q, 3] a, c, d in 1 / square metres
    determinant: Tensor  # [b, q] a d - c², computed without its cancellation
    covariance: Tensor  # [b, q, 2, 2] square metres, of Gaussians with the same 95 % ellipses
    streams: Tensor  # [b, q, 2d] what they were read off


class KeysValues(NamedTuple):
    """Keys and values of the known samples in one layer: of the channel attention, then of the position attention."""

    K: Tensor  # [b, 2h, n, e] already divided by the square root of e
    V: Tensor  # [b, 2h, n, e]


class Frame(NamedTuple):
    """An encoded neighbourhood: everything that a user's token reads."""

    keys_values: list[KeysValues]  # one per layer
    positions: Tensor  # [b, n, 2] metres
    centre: Tensor  # [b, 2] metres
    spread: Tensor  # [b] metres: root mean square distance from the centre
    reference: Tensor  # [b, 2] mean levels of the known samples


class MHead(nn.Module):
    """The weights of one multi-head attention. `Layer` runs its two attentions in one call."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.belief = nn.Parameter(torch.zeros(heads))  # weight of the prior per head
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
        self.MHead_H, self.MHead_Hx = (MHead(d, config.heads) for _ in range(2))
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
        if prior is not None:
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
        sizes, shown = (ABSOLUTE, RELATIVE, ELEVATION), (config.absolute, config.relative, config.elevation)
        seen = torch.cat([torch.full((size,), float(show)) for size, show in zip(sizes, shown, strict=True)])
        self.register_buffer("seen", seen, persistent=False)
        self.embed_H = nn.Linear(FEATURES + 1, d)
        self.embed_x = nn.Linear(3, d)
        self.known, self.to_infer = nn.Parameter(torch.zeros(d)), nn.Parameter(torch.zeros(d))
        self.embed_coarse = nn.Linear(3 * len(ACCURACY_SCALES), d, bias=False)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.depth))
        self.output = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, 2))
        # How sure the model is depends on the channel: on its noise, its array, its paths.
        self.certainty = nn.Sequential(nn.LayerNorm(2 * d), nn.Linear(2 * d, d // 2), nn.GELU(), nn.Linear(d // 2, 4))
        nn.init.normal_(self.known, std=0.02)
        nn.init.normal_(self.to_infer, std=0.02)
        nn.init.zeros_(self.embed_coarse.weight)

    def forward(
        self,
        features_known: Tensor,  # [b, n, F]
        positions_known: Tensor,  # [b, n, 2] metres
        sigmas_known: Tensor,  # [b, n] 1-sigma errors of these positions per axis, metres
        features: Tensor,  # [b, q, F]
        coarse: Tensor,  # [b, q, 2]
        accuracy: Tensor,  # [b, q]
    ) -> Estimates:
        """Locates the users to infer. ``coarse`` and ``accuracy`` are the fields of `Coarse`."""
        b, n = features_known.shape[:2]
        guess, (centre, spread) = Coarse(coarse, accuracy), measure_spread(positions_known)
        reference = mean_levels(features_known)
        h = self._channel_stream(torch.cat([features_known, features], dim=1), spread, reference)  # [b·(n+q), d]
        x_known = self._known(positions_known, sigmas_known, centre, spread)
        x = torch.cat([x_known, self._to_infer(guess, centre, spread)], dim=1).flatten(0, 1)
        prior = log_likelihood(guess, positions_known, spread)  # [b, q, n]
        padded = nn.functional.pad(prior, (0, 0, n, 0))  # [b, n+q, n]: the known samples have no prior
        for layer in self.layers[:-1]:
            known = (stream.unflatten(0, (b, -1))[:, :n] for stream in (h, x))  # [b, n, d]
            h, x = layer(h, x, layer.keys_values(*known), padded)
        last = self.layers[-1]  # moves the users only: nothing reads the known samples afterwards
        (h_known, h), (x_known, x) = (stream.unflatten(0, (b, -1)).tensor_split((n,), 1) for stream in (h, x))
        _, x = last(h.flatten(0, 1), x.flatten(0, 1), last.keys_values(h_known, x_known), prior)
        return self.estimate(h.flatten(0, 1), x, guess, centre, spread)

    def frame(self, features_known: Tensor, positions_known: Tensor, sigmas_known: Tensor) -> Frame:
        """Encodes a neighbourhood. Arguments as in `forward`."""
        b, n = features_known.shape[:2]
        (centre, spread), reference = measure_spread(positions_known), mean_levels(features_known)
        h = self._channel_stream(features_known, spread, reference)  # [b·n, d]
        x = self._known(positions_known, sigmas_known, centre, spread).flatten(0, 1)
        keys_values = [self.layers[0].keys_values(h.unflatten(0, (b, n)), x.unflatten(0, (b, n)))]
        for layer, next_layer in pairwise(self.layers):
            h, x = layer(h, x, keys_values[-1], None)
            keys_values.append(next_layer.keys_values(h.unflatten(0, (b, n)), x.unflatten(0, (b, n))))
        return Frame(keys_values, positions_known, centre, spread, reference)

    def query(self, features: Tensor, coarse: Coarse, frame: Frame) -> Estimates:
        """Locates users with features [b, q, F] in a frame."""
        return self.estimate(*self.read(features, coarse, frame), coarse, frame.centre, frame.spread)

    def read(self, features: Tensor, coarse: Coarse, frame: Frame) -> tuple[Tensor, Tensor]:
        """The two streams [b·q, d] of users after all layers."""
        h = self._channel_stream(features, frame.spread, frame.reference)  # [b·q, d]
        x = self._to_infer(coarse, frame.centre, frame.spread).flatten(0, 1)
        prior = log_likelihood(coarse, frame.positions, frame.spread)
        for layer, known in zip(self.layers[:-1], frame.keys_values[:-1], strict=True):
            h, x = layer(h, x, known, prior)
        _, x = self.layers[-1](h, x, frame.keys_values[-1], prior)
        return h, x

    def describe(self, *inputs: Tensor) -> Tensor:
        """The features of snapshots; see `describe_channel`."""
        return describe_channel(*inputs)

    def _channel_stream(self, features: Tensor, spread: Tensor, reference: Tensor) -> Tensor:
        """The channel stream [b·t, d] of features [b, t, F], whose levels count relative to the neighbourhood's."""
        spectra, levels, description = features.split([SPECTRA, LEVELS, FEATURES - SPECTRA - LEVELS], dim=-1)
        level, delay = (levels - reference[:, None]).unbind(-1)  # [b, t] each
        delay = (delay / spread[:, None]).clamp(-MAX_OFFSET, MAX_OFFSET)
        size = spread.log()[:, None].expand_as(level)
        numbers = torch.stack([level, delay, size], dim=-1)
        if not (self.config.absolute and self.config.relative and self.config.elevation):
            spectra = spectra * self.seen
        return self.embed_H(torch.cat([spectra, numbers, description], dim=-1)).flatten(0, 1)

    def _known(self, positions: Tensor, sigmas: Tensor, centre: Tensor, spread: Tensor) -> Tensor:
        known = torch.cat([positions - centre[:, None], sigmas[..., None]], dim=-1) / spread[:, None, None]
        return self.embed_x(known) + self.known  # [b, n, d]

    def _to_infer(self, coarse: Coarse, centre: Tensor, spread: Tensor) -> Tensor:
        x_init = nn.functional.pad(torch.zeros_like(coarse.position), (0, 1))  # the neighbourhood's mean is the origin
        variances = coarse.position.new_tensor(ACCURACY_SCALES).square()
        weight = variances / (variances + (coarse.accuracy / spread[:, None])[..., None].square())  # [b, q, scales]
        offset = (coarse.position - centre[:, None]) / spread[:, None, None]
        offset = offset.clamp(-MAX_OFFSET, MAX_OFFSET)  # [b, q, 2]
        weighted = torch.cat([weight, weight * offset[..., :1], weight * offset[..., 1:]], dim=-1)
        return self.embed_x(x_init) + self.to_infer + self.embed_coarse(weighted)  # [b, q, d]

    def estimate(self, h: Tensor, x: Tensor, coarse: Coarse, centre: Tensor, spread: Tensor) -> Estimates:
        """Reads positions off the position stream [b·q, d], and precisions off both; fuses the coarse positions."""
        b = centre.shape[0]
        offset = self.output(x).reshape(b, -1, 2)
        streams = torch.cat([h, x], dim=-1)  # [b·q, 2d]
        diagonal, below, belief = self.certainty(streams).reshape(b, -1, 4).split([2, 1, 1], dim=-1)
        own = offset * spread[:, None, None] + centre[:, None]  # [b, q, 2]
        l11, l22 = diagonal.clamp(*LOG_PRECISIONS).exp().unbind(-1)
        l21 = below[..., 0]
        unit = (PRECISION_SCALE * spread).square()[:, None]  # [b, 1] square metres
        a, c, d = l11.square() / unit, l11 * l21 / unit, (l21.square() + l22.square()) / unit
        accuracy = coarse.accuracy.clamp_min(SMALLEST_ACCURACY)
        weight = torch.sigmoid(belief[..., 0] + 2) / accuracy.square()  # [b, q]; zero without a coarse position
        determinant = (l11 * l22 / unit).square()
        fused = add_precision(a, c, d, determinant, weight)
        # The error of a fix is Gaussian already: only the model's own precision is that of a Student-t distribution.
        k = AS_GAUSSIAN * self.config.ellipse
        covariance = invert(*add_precision(a / k, c / k, d / k, determinant / k**2, weight))
        pull = weight[..., None] * (coarse.position - own)
        moved = (invert(*fused) @ pull[..., None])[..., 0]
        precision, read = torch.stack(fused[:3], dim=-1), streams.reshape(b, -1, streams.shape[-1])
        return Estimates(own + moved, precision, fused[3], covariance, streams=read)


def add_precision(
    a: Tensor, c: Tensor, d: Tensor, determinant: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The precision [[a, c], [c, d]] plus that of a measurement with the precision ``weight`` on each axis."""
    return a + weight, c, d + weight, determinant + weight * (a + d + weight)


def invert(a: Tensor, c: Tensor, d: Tensor, determinant: Tensor) -> Tensor:
    """The inverse of matrices [[a, c], [c, d]]: [..., 2, 2]."""
    return (torch.stack([d, -c, -c, a], dim=-1) / determinant[..., None]).unflatten(-1, (2, 2))


def measure_spread(positions: Tensor) -> tuple[Tensor, Tensor]:
    """Centre [b, 2] and root mean square distance from it [b] of positions [b, n, 2]."""
    centre = positions.mean(1)
    return centre, (positions - centre[:, None]).square().sum(-1).mean(1).sqrt().clamp_min(SMALLEST_SPREAD)


def mean_levels(features: Tensor) -> Tensor:
    """The mean levels [b, 2] of features [b, n, F]."""
    return features[..., SPECTRA : SPECTRA + LEVELS].mean(1)


def log_likelihood(coarse: Coarse, positions: Tensor, spread: Tensor) -> Tensor:
    """The log-likelihood of each known position [b, n, 2] given the coarse one: [b, q, n].

    It is zero for a user without a coarse position.
    """
    squared = (coarse.position[:, :, None] - positions[:, None]).square().sum(-1)  # [b, q, n]
    variance = (SIMILAR_WITHIN * spread).square()[:, None] + coarse.accuracy.square()  # [b, q]
    return (squared / -2 / variance[..., None]).clamp_min(-(MAX_COARSE_SIGMAS**2) / 2)
