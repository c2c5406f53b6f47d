"""Chooses the fingerprints that a request is compared with.

A request is located first by its signal, by its coarse position, or by both (mode `fused`, the default). The first
guess is the mode of the product of two densities: the likelihood of the signal and that of the coarse position. The
neighbourhood is the fingerprints nearest to the first guess.

This fits the frame cache. A first guess is a position, so it is snapped to a tile like a coarse position. Users in one
tile share the fingerprints nearest to the tile's centre, and therefore one frame. Locating a user costs one search over
the cell's features and one token through the `query` graph. Each further pass costs the same again: it calls
`next_neighbourhood` around the last estimate, snapped in the same way. Mode `signal` gives every user a different list
of fingerprints, which shares no frame. That is why `fused` turns the signal into a position first.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, Self, get_args

import numpy as np
from numpy.typing import NDArray

from reference_db.errors import TooFewFingerprints
from reference_db.index.signal import SHARPNESS
from reference_db.references import References

Mode = Literal["neighbourhood", "random", "iterative", "signal", "fused"]
MODES: tuple[Mode, ...] = get_args(Mode)

_Floats = NDArray[np.float32]
_Rows = NDArray[np.int64]

_VOTERS = 32  # fingerprints that make a first guess
_GATE_SIGMAS = 4.0  # largest error of a coarse position that the gate allows for
_MOST_CANDIDATES = 4096  # around a coarse position: enough for a first guess among a million fingerprints
_CANDIDATES_AT_ONCE = 1024  # of several users, compared together
# In units of the k-NN bandwidth.
_GATE_MARGIN = 0.75  # how far beyond the gate a fingerprint may still lie
_GUESS_ERROR = 0.2  # 1-sigma error, per axis, of a guess from the signal alone


class LeftOut(NamedTuple):
    """The fingerprints that requests ignore (leave-one-out): all those of one witness.

    `witnesses` int64 `[n]`: the number of the witness that each fingerprint of the cell belongs to. `own` int64 `[b]`:
    the witness that each request ignores.
    """

    witnesses: _Rows
    own: _Rows

    @classmethod
    def alone(cls, rows: _Rows, n: int) -> Self:
        """Each request ignores one fingerprint, rows `[b]` of n."""
        return cls(np.arange(n), rows)

    @property
    def most(self) -> int:
        """The most fingerprints that a request ignores."""
        sizes = np.bincount(self.witnesses, minlength=int(self.own.max(initial=0)) + 1)  # a witness may have none
        return int(sizes[self.own].max(initial=0))

    def taken(self, requests: _Rows | slice) -> Self:
        """What some of the requests ignore."""
        return self._replace(own=self.own[requests])

    def hides(self, rows: _Rows) -> NDArray[np.bool_]:
        """Which of the fingerprints `[b, k]` each request ignores: `[b, k]`."""
        hidden: NDArray[np.bool_] = self.witnesses[rows] == self.own[:, np.newaxis]
        return hidden


class Voters(NamedTuple):
    """The fingerprints that make a first guess: rows int64 and signal distances float32, both `[b, k]`, most similar
    first.
    """

    rows: _Rows
    distances: _Floats


def first_guess(
    references: References, features: _Floats, coarse: _Floats, accuracy: _Floats, left_out: LeftOut | None = None
) -> _Floats:
    """The most likely position of each request: float32 `[b, 2]`, metres.

    The guess is a mode and not a mean: two streets can have similar signals, and their mean may lie inside a house.

    Args:
        references: the cell's fingerprints.
        features: float32 `[b, D]`, `signal_feature` of each request's CSI.
        coarse: float32 `[b, 2]`, metres; a row of NaN where a request has no coarse position.
        accuracy: float32 `[b]`, 1-sigma error of the coarse position on each axis, metres.
        left_out: the fingerprints that each request ignores.

    Raises:
        TooFewFingerprints: no fingerprint is left to compare with.
    """
    return guess_by_voters(references, find_voters(references, features, coarse, accuracy, left_out), coarse, accuracy)


def find_voters(
    references: References, features: _Floats, coarse: _Floats, accuracy: _Floats, left_out: LeftOut | None = None
) -> Voters:
    """The fingerprints most similar to each request, near its coarse position if it has one. See `first_guess`."""
    available = _count_available(references, left_out)
    if available < 1:
        raise TooFewFingerprints(wanted=1, available=available)
    return Voters(*_most_alike(references, features, coarse, accuracy, min(_VOTERS, available), left_out))


def guess_by_voters(references: References, voters_of: Voters, coarse: _Floats, accuracy: _Floats) -> _Floats:
    """The first guess from the voters of each request. See `first_guess`."""
    voters, distances = voters_of
    origin = references.positions[voters[:, :1]]  # [b, 1, 2]; float32 is fine-grained near it
    places = references.positions[voters] - origin  # [b, k, 2]
    log_weights = -SHARPNESS * np.log(np.maximum(distances, 1e-4))
    known = np.isfinite(coarse).all(axis=1)
    fix = coarse[known, np.newaxis] - origin[known]  # [known, 1, 2]
    guess_variance = np.float32(_GUESS_ERROR * references.knn_bandwidth) ** 2
    fix_variance = np.square(accuracy[known, np.newaxis], dtype=np.float32)
    log_weights[known] -= np.square(places[known] - fix).sum(axis=2) / (2 * (guess_variance + fix_variance))
    weights = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))

    east, north = places[..., 0], places[..., 1]
    apart = np.square(east[:, :, np.newaxis] - east[:, np.newaxis])  # [b, k, k]
    apart += np.square(north[:, :, np.newaxis] - north[:, np.newaxis])
    votes = np.exp(apart * np.float32(-0.5 / references.knn_bandwidth**2)) * weights[:, np.newaxis]
    winner = votes.sum(axis=2).argmax(axis=1)
    votes = votes[np.arange(len(votes)), winner]  # [b, k]
    guess = np.einsum("bk,bkx->bx", votes, places) / votes.sum(axis=1, keepdims=True)
    fix_share = guess_variance / (guess_variance + fix_variance)
    guess[known] = fix_share * fix[:, 0] + (1 - fix_share) * guess[known]
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
    left_out: LeftOut | None = None,
    pitch: float = 0.0,
) -> _Rows:
    """The n fingerprints that each request is compared with first: int64 `[b, n]`.

    Args:
        references, features, coarse, accuracy, left_out: see `first_guess`.
        mode: "neighbourhood" takes the fingerprints nearest to the coarse position. "random" draws from the whole
            cell. "iterative" starts like "random"; its caller continues with `next_neighbourhood`. "signal" takes the
            fingerprints with the most similar signal among those near the coarse position. "fused" takes the
            fingerprints nearest to the first guess.
        n: size of the neighbourhood.
        rng: for the modes that draw.
        pitch: width in metres of the tiles that a position is `snapped` to before the search; 0 does not snap.

    Raises:
        ValueError: the mode needs a coarse position or a generator that is missing.
        TooFewFingerprints: the cell has fewer fingerprints than n.
    """
    match mode:
        case "neighbourhood":
            if not np.isfinite(coarse).all():
                raise ValueError("mode neighbourhood needs a coarse position")
            return next_neighbourhood(references, coarse, n, left_out, pitch)
        case "random" | "iterative":
            if rng is None:
                raise ValueError(f"mode {mode} needs a random generator")
            return _draw(references, len(features), n, rng, left_out)
        case "signal":
            _check_enough(references, n, left_out)
            return _most_alike(references, features, coarse, accuracy, n, left_out)[0]
        case "fused":
            guess = first_guess(references, features, coarse, accuracy, left_out)
            return next_neighbourhood(references, guess, n, left_out, pitch)


def snapped(places: _Floats, pitch: float) -> _Floats:
    """The centres of the tiles, `pitch` metres wide, that contain positions `[b, 2]`. Pitch 0 changes nothing."""
    return (np.floor(places / pitch) + 0.5).astype(np.float32) * np.float32(pitch) if pitch else places


def next_neighbourhood(
    references: References, centres: _Floats, n: int, left_out: LeftOut | None = None, pitch: float = 0.0
) -> _Rows:
    """The n fingerprints nearest to `centres` `[b, 2]`, `snapped` by `pitch`, without `left_out`: int64 `[b, n]`.

    Raises `TooFewFingerprints` if the cell has fewer, and `ValueError` for centres that are not finite.
    """
    centres = snapped(centres, pitch)
    if left_out is None:
        return references.index.nearest(centres, n)[0]
    _check_enough(references, n, left_out)
    indices = references.index.nearest(centres, min(n + left_out.most, len(references)))[0]
    kept: _Rows = np.take_along_axis(indices, _first_shown(left_out.hides(indices), n), axis=1)
    return kept


def gate_radii(references: References, accuracy: _Floats) -> _Floats:
    """How far in metres, `[b]`, a fingerprint may lie from coarse positions of these 1-sigma errors."""
    return (_GATE_SIGMAS * accuracy + _GATE_MARGIN * references.knn_bandwidth).astype(np.float32)


def _most_alike(
    references: References, features: _Floats, coarse: _Floats, accuracy: _Floats, k: int, left_out: LeftOut | None
) -> tuple[_Rows, _Floats]:
    """The k fingerprints most similar to each request inside its coarse position's gate, and their distances."""
    signals = references.signals
    rows, distances = np.empty((len(features), k), np.int64), np.empty((len(features), k), np.float32)
    known = np.isfinite(coarse).all(axis=1)
    placed = np.flatnonzero(known)
    if len(placed):
        out = None if left_out is None else left_out.taken(placed)
        for some, candidates, allowed in _inside_gates(references, coarse[placed], accuracy[placed], k, out):
            users = placed[some]
            rows[users], distances[users] = signals.nearest_of(candidates, allowed, features[users], k)
    if not known.all():
        unplaced = np.flatnonzero(~known)
        if left_out is None:
            rows[unplaced], distances[unplaced] = signals.nearest(features[unplaced], k)
        else:
            out = left_out.taken(unplaced)
            found, apart = signals.nearest(features[unplaced], min(k + out.most, len(references)))
            shown = _first_shown(out.hides(found), k)
            rows[unplaced] = np.take_along_axis(found, shown, axis=1)
            distances[unplaced] = np.take_along_axis(apart, shown, axis=1)
    return rows, distances


def _inside_gates(
    references: References, coarse: _Floats, accuracy: _Floats, k: int, left_out: LeftOut | None
) -> Iterator[tuple[slice, _Rows, NDArray[np.bool_]]]:
    """Yields some users u at a time, candidate fingerprints `[m]`, and which each user is compared with `[u, m]`.

    Each row allows at least k. Where a gate holds very many fingerprints, the candidates are an even sample of them.
    """
    gates = gate_radii(references, accuracy)
    if len(references) > _MOST_CANDIDATES:
        out = [None if left_out is None else left_out.taken(np.array([i])) for i in range(len(coarse))]
        yield from _in_batches([_inside_gate(references, *one, k) for one in zip(coarse, gates, out, strict=True)])
        return
    places = references.positions
    away = np.square(places[:, 0] - coarse[:, :1]) + np.square(places[:, 1] - coarse[:, 1:])  # [b, m] metres squared
    if left_out is not None:
        away[left_out.witnesses == left_out.own[:, np.newaxis]] = np.inf
    allowed = away <= np.square(gates)[:, np.newaxis]
    for row in np.flatnonzero(np.count_nonzero(allowed, axis=1) < k):
        allowed[row] = away[row] <= np.partition(away[row], k - 1)[k - 1]
    candidates = np.flatnonzero(allowed.any(axis=0))
    if 2 * len(candidates) < len(references):
        yield slice(None), candidates, allowed[:, candidates]
    else:
        yield slice(None), np.arange(len(references)), allowed


def _inside_gate(references: References, place: _Floats, gate: float, left_out: LeftOut | None, k: int) -> _Rows:
    """The fingerprints at most `gate` metres from a position `[2]`, ascending; at least the k nearest."""
    index = references.index
    near = _shown(index.within(place, gate, _MOST_CANDIDATES), left_out)
    if len(near) < k:
        most = 0 if left_out is None else left_out.most
        nearest = index.nearest(place[np.newaxis], min(k + most, len(references)))[0][0]
        near = np.sort(_shown(nearest, left_out)[:k])
    return near


def _shown(rows: _Rows, left_out: LeftOut | None) -> _Rows:
    """Those of the fingerprints `[k]` that one request does not ignore."""
    return rows if left_out is None else rows[~left_out.hides(rows[np.newaxis])[0]]


def _in_batches(candidates_of: Sequence[_Rows]) -> Iterator[tuple[slice, _Rows, NDArray[np.bool_]]]:
    """Batches users, each with ascending candidates, so that a batch has about `_CANDIDATES_AT_ONCE` candidates."""
    first, count = 0, 0
    for end, rows in enumerate(candidates_of, 1):
        count += len(rows)
        if end == len(candidates_of) or count >= _CANDIDATES_AT_ONCE:
            batch = candidates_of[first:end]
            candidates = np.unique(np.concatenate(batch)) if len(batch) > 1 else rows
            allowed = np.zeros((len(batch), len(candidates)), np.bool_)
            for row, own in zip(allowed, batch, strict=True):
                row[np.searchsorted(candidates, own)] = True
            yield slice(first, end), candidates, allowed
            first, count = end, 0


def _first_shown(hidden: NDArray[np.bool_], n: int) -> _Rows:
    """The first n columns of each row of `[b, k]` that are not hidden: int64 `[b, n]`. Each row has so many."""
    columns: _Rows = np.argsort(hidden, axis=1, kind="stable")[:, :n]
    return columns


def _draw(references: References, users: int, n: int, rng: np.random.Generator, left_out: LeftOut | None) -> _Rows:
    _check_enough(references, n, left_out)
    everything = np.arange(len(references))
    candidates = [
        everything if left_out is None else everything[left_out.witnesses != left_out.own[user]]
        for user in range(users)
    ]
    return np.stack([rng.choice(some, n, replace=False) for some in candidates])


def _count_available(references: References, left_out: LeftOut | None) -> int:
    """How many fingerprints every request may be compared with."""
    return len(references) - (0 if left_out is None else left_out.most)


def _check_enough(references: References, n: int, left_out: LeftOut | None) -> None:
    available = _count_available(references, left_out)
    if n > available:
        raise TooFewFingerprints(wanted=n, available=available)
