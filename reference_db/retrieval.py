"""Which fingerprints a request is compared with.

Where a request is looked for first comes from its signal, its coarse position, or both (`fused`, the default): the
first guess is the mode of the signal's likelihood times the coarse position's, and the neighbourhood is what lies
nearest to it. How that meets the frame cache: a guess is only a place, so it is snapped to a tile as a coarse
position is; users of one tile share the fingerprints nearest its centre, and so one frame. A located user costs one
search among the cell's features, then one token through the `query` graph against a ready frame, and as much again
for every further pass (`next_neighbourhood` around the last answer, snapped likewise). Signal retrieval's own list of
fingerprints, which differs from user to user, would share no frame: that is why `fused` goes back to a place.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from reference_db.errors import TooFewFingerprints
from reference_db.index.position import PositionIndex
from reference_db.index.signal import SHARPNESS, SignalIndex
from reference_db.index.signal_features import Features, SignalFeatures, Snapshots, signal_feature
from reference_db.timing_trust import measure_timing_trust

Mode = Literal["neighbourhood", "random", "iterative", "signal", "fused"]
MODES: tuple[Mode, ...] = get_args(Mode)

_Floats = NDArray[np.float32]
_Rows = NDArray[np.int64]

_VOTERS = 32  # fingerprints that a first guess is made of
_SIGMAS = 4.0  # a coarse position is believed to be off by no more
_MOST_CANDIDATES = 4096  # around a coarse position: a first guess among a million needs no finer grid
_CANDIDATES_AT_ONCE = 1024  # of several users: each is compared with those of all
_FEATURES_AT_ONCE = 8192  # of more, each is made as often as it is needed
# In units of `References.reach`.
_SLACK = 0.75  # how far beyond that a fingerprint may still lie
_GUESS_ERROR = 0.2  # 1-sigma error of a guess made of the signal alone, each axis
_REACHED, _REACH_SAMPLE = 24, 512
_SHORTEST_REACH = 0.1


@dataclass(frozen=True, eq=False)
class References:
    """A cell's fingerprints, ready to be searched by place and by signal; safe to share between threads.

    `positions` float32 `[n, 2]` metres; `reach` (metres) is the radius that holds two dozen, as a rule.
    """

    positions: _Floats
    index: PositionIndex
    signals: SignalIndex
    reach: float

    @classmethod
    def of(cls, positions: _Floats, csi: Snapshots) -> Self:
        """Indexes fingerprints: positions `[n, 2]`, CSI `[n, antennas, subcarriers]`; n at least 1."""
        features = _features(csi)
        index = PositionIndex(positions)
        signals = SignalIndex(features, measure_timing_trust(features, positions))
        return cls(positions, index, signals, _reach(positions, index))

    def extended(self, positions: _Floats, csi: Snapshots) -> Self:
        """With fingerprints behind these that came later: positions `[k, 2]`, CSI `[k, antennas, subcarriers]`.

        Costs what k cost, see `indices_due` for how long that can go on; reach and timing trust stay as they are. The
        same fingerprints in the same portions make the same references.
        """
        index = self.index.extended(positions)
        return replace(self, positions=index.positions, index=index, signals=self.signals.extended(_features(csi)))

    @property
    def resident_bytes(self) -> int:
        """Bytes of memory that it takes, those included that it shares with what it was extended from."""
        return self.index.resident_bytes + self.signals.resident_bytes

    def __len__(self) -> int:
        return len(self.positions)


def first_guess(
    references: References, features: _Floats, coarse: _Floats, accuracy: _Floats, left_out: _Rows | None = None
) -> _Floats:
    """Where requests probably come from: float32 `[b, 2]`, metres.

    `features` float32 `[b, D]` of their CSI; `coarse` `[b, 2]` metres, a NaN row where there is none; `accuracy`
    `[b]`, the coarse position's 1-sigma error on each axis in metres; `left_out` int64 `[b]`: a fingerprint that has no
    say. The guess is the mode: two streets may sound alike, and between them there is only a house. Raises
    `TooFewFingerprints` where nothing is left to compare with.
    """
    available = len(references) - (left_out is not None)
    if available < 1:
        raise TooFewFingerprints(wanted=1, available=available)
    k = min(_VOTERS, available)
    voters, distances = _most_alike(references, features, coarse, accuracy, k, left_out)
    origin = references.positions[voters[:, :1]]  # [b, 1, 2]; near it float32 resolves well
    places = references.positions[voters] - origin  # [b, k, 2]
    log_weights = -SHARPNESS * np.log(np.maximum(distances, 1e-4))
    known = np.isfinite(coarse).all(axis=1)
    fix = coarse[known, np.newaxis] - origin[known]  # [known, 1, 2]
    own = np.float32(_GUESS_ERROR * references.reach) ** 2  # variances, metres squared
    given = np.square(accuracy[known, np.newaxis], dtype=np.float32)
    log_weights[known] -= np.square(places[known] - fix).sum(axis=2) / (2 * (own + given))
    weights = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))

    east, north = places[..., 0], places[..., 1]
    apart = np.square(east[:, :, np.newaxis] - east[:, np.newaxis])  # [b, k, k]
    apart += np.square(north[:, :, np.newaxis] - north[:, np.newaxis])
    votes = np.exp(apart * np.float32(-0.5 / references.reach**2)) * weights[:, np.newaxis]
    winner = votes.sum(axis=2).argmax(axis=1)
    votes = votes[np.arange(len(votes)), winner]  # [b, k]
    guess = np.einsum("bk,bkx->bx", votes, places) / votes.sum(axis=1, keepdims=True)
    share = own / (own + given)
    guess[known] = share * fix[:, 0] + (1 - share) * guess[known]
    nearest: _Floats = guess + origin[:, 0]
    return nearest


def first_neighbourhood(
    references: References,
    mode: Mode,
    features: _Floats,
    coarse: _Floats,
    accuracy: _Floats,
    n: int,
    rng: np.random.Generator | None = None,
    left_out: _Rows | None = None,
    pitch: float = 0.0,
) -> _Rows:
    """The n fingerprints that each request is compared with at first: int64 `[b, n]`.

    Arguments as of `first_guess`. Modes: "neighbourhood" takes those nearest the coarse position; "random" draws
    from the whole cell with `rng`; "iterative" begins as "random" does, its caller going on with `next_neighbourhood`;
    "signal" takes those that sound most alike, not too far from the coarse position; "fused" those nearest the first
    guess. Whatever place the nearest are sought around is `snapped` by `pitch` before. Raises `ValueError` where a
    mode lacks its coarse position or `rng`, `TooFewFingerprints` where the cell lacks fingerprints.
    """
    match mode:
        case "neighbourhood":
            if not np.isfinite(coarse).all():
                raise ValueError("mode neighbourhood needs a coarse position")
            return next_neighbourhood(references, coarse, n, left_out, pitch)
        case "random" | "iterative":
            if rng is None:
                raise ValueError(f"mode {mode} needs a random generator")
            return _drawn(references, len(features), n, rng, left_out)
        case "signal":
            _check_enough(references, n, left_out)
            return _most_alike(references, features, coarse, accuracy, n, left_out)[0]
        case "fused":
            guess = first_guess(references, features, coarse, accuracy, left_out)
            return next_neighbourhood(references, guess, n, left_out, pitch)


def snapped(places: _Floats, pitch: float) -> _Floats:
    """The centres of the tiles, `pitch` metres wide, that places `[b, 2]` lie in; the places themselves at pitch 0."""
    return (np.floor(places / pitch) + 0.5).astype(np.float32) * np.float32(pitch) if pitch else places


def next_neighbourhood(
    references: References, centres: _Floats, n: int, left_out: _Rows | None = None, pitch: float = 0.0
) -> _Rows:
    """The n fingerprints nearest to `centres` `[b, 2]`, `snapped` by `pitch`: int64 `[b, n]`, those `left_out` not.

    Raises `TooFewFingerprints` where the cell has fewer and `ValueError` for centres that are not finite.
    """
    centres = snapped(centres, pitch)
    if left_out is None:
        return references.index.nearest(centres, n)[0]
    _check_enough(references, n, left_out)
    indices = references.index.nearest(centres, n + 1)[0]
    kept: _Rows = indices[_all_but_one(indices, left_out)]
    return kept.reshape(-1, n)


def _most_alike(
    references: References, features: _Floats, coarse: _Floats, accuracy: _Floats, k: int, left_out: _Rows | None
) -> tuple[_Rows, _Floats]:
    """The k fingerprints most like each request of those within reach of its coarse position, and how unlike."""
    signals = references.signals
    rows, distances = np.empty((len(features), k), np.int64), np.empty((len(features), k), np.float32)
    known = np.isfinite(coarse).all(axis=1)
    placed = np.flatnonzero(known)
    if len(placed):
        out = None if left_out is None else left_out[placed]
        for some, candidates, allowed in _within_reach(references, coarse[placed], accuracy[placed], k, out):
            users = placed[some]
            rows[users], distances[users] = signals.nearest_of(candidates, allowed, features[users], k)
    if not known.all():
        lost = ~known
        if left_out is None:
            rows[lost], distances[lost] = signals.nearest(features[lost], k)
        else:
            found, unlike = signals.nearest(features[lost], k + 1)
            others = _all_but_one(found, left_out[lost])
            rows[lost], distances[lost] = found[others].reshape(-1, k), unlike[others].reshape(-1, k)
    return rows, distances


def _within_reach(
    references: References, coarse: _Floats, accuracy: _Floats, k: int, left_out: _Rows | None
) -> Iterator[tuple[slice, _Rows, NDArray[np.bool_]]]:
    """Some, u, of the coarse positions `[b, 2]` at a time; fingerprints `[m]`; which they may mean: `[u, m]`.

    At least k in each row. Around a coarse position among very many fingerprints it is an even choice of them.
    """
    gates = (_SIGMAS * accuracy + _SLACK * references.reach).astype(np.float32)
    if len(references) > _MOST_CANDIDATES:
        out = np.full(len(coarse), -1) if left_out is None else left_out
        yield from _together([_within_gate(references, *one, k) for one in zip(coarse, gates, out, strict=True)])
        return
    places = references.positions
    away = np.square(places[:, 0] - coarse[:, :1]) + np.square(places[:, 1] - coarse[:, 1:])  # [b, m] metres squared
    if left_out is not None:
        away[np.arange(len(references)) == left_out[:, np.newaxis]] = np.inf
    allowed = away <= np.square(gates)[:, np.newaxis]
    for row in np.flatnonzero(np.count_nonzero(allowed, axis=1) < k):
        allowed[row] = away[row] <= np.partition(away[row], k - 1)[k - 1]
    candidates = np.flatnonzero(allowed.any(axis=0))
    if 2 * len(candidates) < len(references):
        yield slice(None), candidates, allowed[:, candidates]
    else:
        yield slice(None), np.arange(len(references)), allowed


def _within_gate(references: References, place: _Floats, gate: float, left_out: int, k: int) -> _Rows:
    """The fingerprints at most `gate` metres from a place `[2]`, rising; at least the k nearest, even if farther."""
    index = references.index
    near = index.within(place, gate, _MOST_CANDIDATES)
    near = near[near != left_out]
    if len(near) < k:
        nearest = index.nearest(place[np.newaxis], min(k + 1, len(references)))[0][0]
        near = np.sort(nearest[nearest != left_out][:k])
    return near


def _together(own: Sequence[_Rows]) -> Iterator[tuple[slice, _Rows, NDArray[np.bool_]]]:
    """Users, each with rising fingerprints of its `own`, as many at a time as have few enough between them."""
    first, count = 0, 0
    for end, rows in enumerate(own, 1):
        count += len(rows)
        if end == len(own) or count >= _CANDIDATES_AT_ONCE:
            theirs = own[first:end]
            candidates = np.unique(np.concatenate(theirs)) if len(theirs) > 1 else rows
            allowed = np.zeros((len(theirs), len(candidates)), np.bool_)
            for permitted, mine in zip(allowed, theirs, strict=True):
                permitted[np.searchsorted(candidates, mine)] = True
            yield slice(first, end), candidates, allowed
            first, count = end, 0


def _all_but_one(rows: _Rows, left_out: _Rows) -> NDArray[np.bool_]:
    """True but for one in each row of `[b, n]`: the one left out `[b]` where it is there, else the last."""
    others: NDArray[np.bool_] = rows != left_out[:, np.newaxis]
    others[others.all(axis=1), -1] = False
    return others


def _drawn(references: References, users: int, n: int, rng: np.random.Generator, left_out: _Rows | None) -> _Rows:
    _check_enough(references, n, left_out)
    if left_out is None:
        return np.stack([rng.choice(len(references), n, replace=False) for _ in range(users)])
    # A draw from one fewer, those from the one left out on shifted by one.
    drawn = np.stack([rng.choice(len(references) - 1, n, replace=False) for _ in range(users)])
    return drawn + (drawn >= left_out[:, np.newaxis])


def _check_enough(references: References, n: int, left_out: _Rows | None) -> None:
    available = len(references) - (left_out is not None)
    if n > available:
        raise TooFewFingerprints(wanted=n, available=available)


def _features(csi: Snapshots) -> Features:
    n = len(csi)
    return signal_feature(csi[np.arange(n)]) if n <= _FEATURES_AT_ONCE else SignalFeatures(csi)


def _reach(positions: _Floats, index: PositionIndex) -> float:
    sample = positions[:: max(1, len(positions) // _REACH_SAMPLE)]
    radii = index.nearest(sample, min(_REACHED + 1, len(index)))[1][:, -1]
    return max(float(np.median(radii)), _SHORTEST_REACH)
