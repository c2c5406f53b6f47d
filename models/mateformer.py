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

POSITION_SCALE = 5.0  # metres: a neighbourhood of 64 has about this radius
COMPRESSION = 0.8  # exponent of angle-delay magnitudes: echoes count beside the strongest path
LOUDNESS = 0.35  # how much of a snapshot's own power is taken out: 0 nothing, 0.5 all of it
CLOCK_SCALE = 0.1  # radians a subcarrier: with 32 of them over 40 MHz, 4 m of delay
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


class Reference(NamedTuple):
    """What a neighbourhood's channels are measured against."""

    scale: Tensor  # [b] RMS of the known CSI
    clock: Tensor  # [b] radians a subcarrier: the known samples' mean delay


class Coarse(NamedTuple):
    """What is known of the users beforehand."""

    position: Tensor  # [b, q, 2] metres; any finite one where there is none
    accuracy: Tensor  # [b, q] its 1-sigma error an axis, metres; infinite where there is none


class KeysValues(NamedTuple):
    """What the known samples offer a layer's two attentions, split into heads as the products want them."""

    K_H: Tensor  # [b, h, e, n]
    V_H: Tensor  # [b, h, n, e]
    K_Hx: Tensor  # [b, h, e, n]
    V_Hx: Tensor  # [b, h, n, e]


class Frame(NamedTuple):
    """A neighbourhood already encoded: all that a user's token needs of it."""

    keys_values: list[KeysValues]  # a layer
    positions: Tensor  # [b, n, 2] metres
    centre: Tensor  # [b, 2] metres
    scale: Tensor  # [b]
    clock: Tensor  # [b]


class Channel(nn.Module):
    """Preprocessing: CSI to real features, blind to the cell's gain and to each snapshot's common phase.

    References stand many wavelengths apart, so the phase of each path is random from one to the next; the magnitudes
    over angle and delay are not. They must be oversampled: one bin an antenna loses what lies between two bins.

    A second picture is blind to each snapshot's gain and sampling time as well: the snapshot is turned back by its own
    mean delay. Gain and mean delay stand beside it as two numbers, to be trusted as far as the neighbourhood's own
    agree with where they were measured. Square roots under a Hamming window: the side lobes of the strongest path
    would bury the echoes.
    """

    def __init__(self, config: MateformerConfig) -> None:
        super().__init__()
        a, s = config.antennas, config.subcarriers
        bins_a, bins_s = round(config.angle_delay * a), round(config.angle_delay * s)
        self.raw, self.timed, self.aligned = config.raw, bool(bins_a * bins_s), config.aligned
        self.register_buffer("dft_a", _dft(bins_a, torch.ones(a)), persistent=False)
        self.register_buffer("dft_s", _dft(bins_s, torch.ones(s)), persistent=False)
        self.register_buffer("windowed_a", _dft(a, torch.hamming_window(a, periodic=False)), persistent=False)
        self.register_buffer("windowed_s", _dft(s, torch.hamming_window(s, periodic=False)), persistent=False)
        self.register_buffer("subcarrier", torch.arange(s, dtype=torch.float32) - s // 2, persistent=False)
        self.features = 2 * a * s * config.raw + bins_a * bins_s + (a * s + 2) * config.aligned

    def reference(self, csi: Tensor) -> Reference:
        """Of the known samples' CSI [b, n, a, s, 2]."""
        scale = csi.square().sum(-1).mean((1, 2, 3)).clamp_min(1e-30).sqrt()  # [b]
        clock = self.clock(csi / scale[:, None, None, None, None])  # [b, n]
        return Reference(scale, torch.atan2(clock.sin().sum(1), clock.cos().sum(1)))

    def forward(self, csi: Tensor, reference: Reference) -> Tensor:
        H = csi / reference.scale[:, None, None, None, None]  # [b, t, a, s, 2]
        power = H.square().sum(-1).mean((-2, -1)).clamp_min(1e-12)  # [b, t]
        quieter = H / (power**LOUDNESS)[..., None, None, None]
        features = []
        if self.raw:
            features.append(quieter.flatten(2))  # [b, t, 2as]
        if self.timed:
            magnitudes = self.angle_delay(quieter, self.dft_a, self.dft_s)
            features.append((magnitudes ** (COMPRESSION / 2)).flatten(2))
        if self.aligned:
            clock = self.clock(H)  # [b, t]
            aligned = self.turned_back(H / power.sqrt()[..., None, None, None], clock)
            magnitudes = self.angle_delay(aligned, self.windowed_a, self.windowed_s)
            late = clock - reference.clock[:, None]
            late = torch.atan2(late.sin(), late.cos()) / CLOCK_SCALE
            features += [magnitudes.sqrt().sqrt().flatten(2), torch.stack([power.log() / 2, late], dim=-1)]
        return torch.cat(features, dim=-1)

    def clock(self, H: Tensor) -> Tensor:
        """Phase from each subcarrier to the next, radians, of H [..., a, s, 2]: [...]; the delays' circular mean."""
        here, next_ = H[..., :-1, :], H[..., 1:, :]
        re = (next_ * here).sum((-3, -2, -1))
        im = (next_[..., 1] * here[..., 0] - next_[..., 0] * here[..., 1]).sum((-2, -1))
        return torch.atan2(im, re)

    def turned_back(self, H: Tensor, clock: Tensor) -> Tensor:
        """H [b, t, a, s, 2] less the phase ramp ``clock`` [b, t] over its subcarriers."""
        ramp = (clock[..., None] * self.subcarrier)[..., None, :]  # [b, t, 1, s]
        cos, sin = ramp.cos(), ramp.sin()
        re, im = H[..., 0], H[..., 1]
        return torch.stack([re * cos + im * sin, im * cos - re * sin], dim=-1)

    def angle_delay(self, H: Tensor, dft_a: Tensor, dft_s: Tensor) -> Tensor:
        """|2-D DFT|² of H [b, t, a, s, 2]: [b, t, angle bins, delay bins]."""
        re, im = H[..., 0], H[..., 1]  # [b, t, a, s]
        (ca, sa), (cs, ss) = dft_a, dft_s  # cosine and sine: [angles, a], [delays, s]
        re, im = ca @ re + sa @ im, ca @ im - sa @ re  # over antennas
        re, im = re @ cs.mT + im @ ss.mT, im @ cs.mT - re @ ss.mT  # over subcarriers
        return re.square() + im.square() + 1e-6


class MHead(nn.Module):
    """Multi-head attention whose keys and values are the known samples only: made by `keys`, `values` beforehand."""

    def __init__(self, width: int, heads: int, coarse: bool) -> None:
        super().__init__()
        self.heads = heads
        self.belief = nn.Parameter(torch.zeros(heads)) if coarse else None  # in the coarse position, a head
        self.Q = nn.Linear(width, width)
        self.K = nn.Linear(width, width, bias=False)
        self.V = nn.Linear(width, width)
        self.O = nn.Linear(width, width)

    def keys(self, h: Tensor) -> Tensor:
        """h [b, n, d] -> [b, h, e, n]."""
        return self.K(h).unflatten(-1, (self.heads, -1)).permute(0, 2, 3, 1)

    def values(self, h: Tensor) -> Tensor:
        """h [b, n, d] -> [b, h, n, e]."""
        return self._split(self.V(h))

    def forward(self, q: Tensor, K: Tensor, V: Tensor, prior: Tensor) -> Tensor:
        """q [b, t, d], K [b, h, e, n], V [b, h, n, e], prior [b, t, n] (log of a likelihood) -> [b, t, d]."""
        Q = self._split(self.Q(q) / math.sqrt(K.shape[2]))  # [b, h, t, e]
        weights = Q @ K  # [b, h, t, n]
        if self.belief is not None:
            weights = weights + self.belief[:, None, None] * prior[:, None]
        mixed = weights.softmax(-1) @ V  # [b, h, t, e]
        return self.O(mixed.transpose(1, 2).flatten(2))  # [b, t, d]

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FFN(nn.Sequential):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class Layer(nn.Module):
    """One layer of both transformers: relativity among channels, and the same relativity moving positions."""

    def __init__(self, config: MateformerConfig) -> None:
        super().__init__()
        d = config.width
        self.norm_h, self.norm_x = nn.LayerNorm(d), nn.LayerNorm(d)
        self.MHead_H, self.MHead_Hx = (MHead(d, config.heads, config.coarse) for _ in range(2))
        self.FFN_H, self.FFN_Hx = FFN(d, config.hidden), FFN(d, config.hidden)

    def keys_values(self, h: Tensor, x: Tensor) -> KeysValues:
        """Of the known samples' streams ``h``, ``x`` [b, n, d]."""
        h, x = self.norm_h(h), self.norm_x(x)
        H, Hx = self.MHead_H, self.MHead_Hx
        return KeysValues(H.keys(h), H.values(h), Hx.keys(h), Hx.values(x))

    def forward(self, h: Tensor, x: Tensor, offered: KeysValues, prior: Tensor) -> tuple[Tensor, Tensor]:
        K_H, V_H, K_Hx, V_Hx = offered
        q = self.norm_h(h)  # both attentions ask with the channel, before either stream has moved
        h, x = h + self.MHead_H(q, K_H, V_H, prior), x + self.MHead_Hx(q, K_Hx, V_Hx, prior)  # eqs. 8, 9
        return h + self.FFN_H(h), x + self.FFN_Hx(x)


class Mateformer(nn.Module):
    """``forward`` is the paper's single pass; `frame` and `query` are its two halves, equal to it."""

    def __init__(self, config: MateformerConfig) -> None:
        super().__init__()
        self.config = config
        d = config.width
        self.channel = Channel(config)
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
        n, guess = csi_known.shape[1], Coarse(coarse, accuracy)
        centre, reference = positions_known.mean(1), self.channel.reference(csi_known)
        h = self.embed_H(self.channel(torch.cat([csi_known, csi], dim=1), reference))  # [b, n+q, d]
        x = torch.cat([self._known(positions_known, centre), self._to_infer(guess, centre)], dim=1)  # [b, n+q, d]
        prior = log_likelihood(guess, positions_known)  # [b, q, n]
        everybody = nn.functional.pad(prior, (0, 0, n, 0))  # [b, n+q, n]: the known samples need none
        for layer in self.layers[:-1]:
            h, x = layer(h, x, layer.keys_values(h[:, :n], x[:, :n]), everybody)
        last = self.layers[-1]  # where only the users move: nobody reads the known samples any more
        _, x = last(h[:, n:], x[:, n:], last.keys_values(h[:, :n], x[:, :n]), prior)
        return self._positions(x, centre)

    def frame(self, csi_known: Tensor, positions_known: Tensor) -> Frame:
        """Encodes a neighbourhood: csi_known [b, n, a, s, 2], positions_known [b, n, 2]."""
        centre, reference = positions_known.mean(1), self.channel.reference(csi_known)
        h, x = self.embed_H(self.channel(csi_known, reference)), self._known(positions_known, centre)
        offered = [self.layers[0].keys_values(h, x)]
        indifferent = h.new_zeros(1, 1, 1)
        for layer, next_layer in pairwise(self.layers):
            h, x = layer(h, x, offered[-1], indifferent)
            offered.append(next_layer.keys_values(h, x))
        return Frame(offered, positions_known, centre, *reference)

    def query(self, csi: Tensor, coarse: Coarse, frame: Frame) -> Tensor:
        """Locates users in a frame: csi [b, q, a, s, 2] -> positions [b, q, 2]."""
        h = self.embed_H(self.channel(csi, Reference(frame.scale, frame.clock)))
        x, prior = self._to_infer(coarse, frame.centre), log_likelihood(coarse, frame.positions)
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
        return self.output(x) * POSITION_SCALE + centre[:, None]


def log_likelihood(coarse: Coarse, positions: Tensor) -> Tensor:
    """That of each known position [b, n, 2] by the coarse one, [b, q, n]: zero where there is none.

    A metre stands for how far a user may be from a known sample that hears the same.
    """
    off = (coarse.position[:, :, None] - positions[:, None]).square().sum(-1)  # [b, q, n]
    return (off / -2 / (1.0 + coarse.accuracy[..., None].square())).clamp_min(-(FARTHEST**2) / 2)


def _dft(bins: int, window: Tensor) -> Tensor:
    """Cosine and sine of the DFT of as many samples as the window [size] has, of unit power: [2, bins, size].

    The ``bins`` frequencies are even, from -π on.
    """
    frequency = 2 * math.pi * (torch.arange(bins, dtype=torch.float64) - bins // 2) / max(bins, 1)
    angle = frequency[:, None] * torch.arange(len(window), dtype=torch.float64)
    return (torch.stack([angle.cos(), angle.sin()]) * window.double() / window.double().norm()).float()
