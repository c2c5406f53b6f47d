"""The cost of looking up fingerprints as a cell grows: ``python -m benchmarks.reference_db``.

The cells are towns made of copies of the demo's two cells, side by side, with 16 antennas and 16 subcarriers. Users are
fingerprints with 1 % of noise. One thread looks them up one at a time; times are medians of the fastest of seven
rounds. In a large town the index reads only a part of the signals. "Moved" is the share of users whose first guess
without a coarse position is more than 1 m from the guess of a comparison with all signals: for users with 1 % and with
10 % of noise, and for fingerprints left out of the index, which only their neighbours can find.

The second table indexes the same town without its last fingerprints and then appends these, 1,000 at a time (or all, if
there are fewer): as many as `needs_reindexing` allows before it asks for a new index. An append's time includes the
signal features; the table has the median and the maximum, beside the time of a new index. Look-ups are timed again with
all of them appended. Bytes per fingerprint are those of the indices at the end. The CSI, 4 bytes per antenna and
subcarrier, stays in its file.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.serving.cells import town
from reference_db import References, SignalIndex, first_guess, signal_feature
from reference_db.retrieval import LeftOut
from reference_db.version_plan import needs_reindexing

SIZES = (1_000, 10_000, 100_000, 1_000_000)
RESULT = Path(__file__).parent / "results" / "reference_db.md"

_ANTENNAS, _USERS, _ROUNDS = 16, 512, 7
_NEIGHBOURS, _RADIUS_M, _ACCURACY_M, _MOVED_M = 64, 7.0, 1.0, 1.0
_AT_ONCE = 1 << 16  # fingerprints
_PORTION = 1_000  # fingerprints of an append

_Floats = NDArray[np.float32]
_Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Cost:
    """Median seconds of look-ups, shares of moved users, seconds of a new index and of each append."""

    fingerprints: int
    look_ups: dict[str, float]
    moved: dict[str, float]
    indexed_s: float
    appended: int
    appends_s: Sequence[float]
    look_ups_appended: dict[str, float]
    bytes_each: float

    def cells(self) -> dict[str, str]:
        return (
            {"fingerprints": f"{self.fingerprints:,}"}
            | {f"{name} (ms)": f"{1e3 * seconds:.3f}" for name, seconds in self.look_ups.items()}
            | {f"moved, {who}": f"{share:.1%}" for who, share in self.moved.items()}
            | {"new index (s)": f"{self.indexed_s:.1f}"}
        )

    def cells_appended(self) -> dict[str, str]:
        return (
            {"fingerprints": f"{self.fingerprints:,}", "of which appended": f"{self.appended:,}"}
            | {f"{name} (ms)": f"{1e3 * seconds:.3f}" for name, seconds in self.look_ups_appended.items()}
            | {f"append of up to {_PORTION:,}, median (s)": f"{np.median(self.appends_s):.3f}"}
            | {"maximum (s)": f"{max(self.appends_s):.3f}", "new index (s)": f"{self.indexed_s:.1f}"}
            | {"bytes per fingerprint": f"{self.bytes_each:.0f}"}
        )


class ExactSignals:
    """Compares with all signals of a cell: the reference for `SignalIndex.nearest`."""

    def __init__(self, signals: SignalIndex) -> None:
        self._signals = signals

    def nearest(self, features: _Floats, k: int) -> tuple[_Rows, _Floats]:
        found = []
        for part in np.split(np.arange(len(self._signals)), range(_AT_ONCE, len(self._signals), _AT_ONCE)):
            allowed = np.ones((len(features), len(part)), np.bool_)
            found.append(self._signals.nearest_of(part, allowed, features, min(k, len(part))))
        rows, unlike = (np.concatenate(each, axis=1) for each in zip(*found, strict=True))
        best = np.argsort(unlike, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(rows, best, axis=1), np.take_along_axis(unlike, best, axis=1)


def measure(size: int) -> Cost:
    _, fingerprints = town(size, _ANTENNAS)
    positions, csi = fingerprints.positions, fingerprints.csi
    random = np.random.default_rng(0)
    users = random.choice(size, min(_USERS, size), replace=False)
    started = time.perf_counter()
    references = References.of(positions, csi)
    indexed_s = time.perf_counter() - started

    own = signal_feature(csi[users])
    quiet, noisy = (signal_feature(_with_noise(csi[users], noise, random)) for noise in (0.01, 0.1))
    coarse = (positions[users] + random.normal(0, _ACCURACY_M, (len(users), 2))).astype(np.float32)
    accuracy = np.full(len(users), _ACCURACY_M, np.float32)
    nowhere = np.full_like(coarse, np.nan)
    exact_references = replace(references, signals=ExactSignals(references.signals))

    def look_ups(among: References) -> dict[str, Callable[[slice], object]]:
        def guess(places: _Floats, u: slice) -> object:
            return first_guess(among, quiet[u], places[u], accuracy[u])

        return {
            f"{_NEIGHBOURS} nearest by position": lambda u: among.index.nearest(coarse[u], _NEIGHBOURS),
            f"all within {_RADIUS_M:g} m": lambda u: among.index.within(coarse[u][0], _RADIUS_M),
            f"first guess, coarse position of {_ACCURACY_M:g} m": lambda u: guess(coarse, u),
            "first guess, no coarse position": lambda u: guess(nowhere, u),
        }

    def medians(among: References) -> dict[str, float]:
        return {name: _median(look_up, len(users)) for name, look_up in look_ups(among).items()}

    def moved(features: _Floats, left_out: LeftOut | None = None) -> float:
        guess, exact = (first_guess(r, features, nowhere, accuracy, left_out) for r in (references, exact_references))
        return float((np.linalg.norm(guess - exact, axis=1) > _MOVED_M).mean())

    whole = medians(references)
    shares = {
        "1 % of noise": moved(quiet),
        "10 %": moved(noisy),
        "left out": moved(own, LeftOut.alone(users, len(references))),
    }
    appended = _most_appended(size)
    extended, appends_s = _grown(positions, csi, size - appended)
    bytes_each = extended.resident_bytes / size
    return Cost(size, whole, shares, indexed_s, appended, appends_s, medians(extended), bytes_each)


def markdown(costs: Sequence[Cost]) -> str:
    tables = [cost.cells() for cost in costs], [cost.cells_appended() for cost in costs]
    return "\n".join(map(_table, tables))


def _table(rows: Sequence[dict[str, str]]) -> str:
    lines = [list(rows[0]), ["---:"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _most_appended(size: int) -> int:
    """The most fingerprints that `needs_reindexing` allows after the last new index."""
    return max((most for most in range(size) if not needs_reindexing(size - most, most)), default=0)


def _grown(positions: _Floats, csi: NDArray[np.complex64], indexed: int) -> tuple[References, list[float]]:
    """References of `indexed` fingerprints, extended by the others, and the seconds of each append."""
    references, seconds = References.of(positions[:indexed], csi[:indexed]), []
    for first in range(indexed, len(positions), _PORTION):
        some = slice(first, first + _PORTION)
        started = time.perf_counter()
        references = references.extended(positions[some], csi[some])
        seconds.append(time.perf_counter() - started)
    return references, seconds


def _with_noise(csi: NDArray[np.complex64], noise: float, random: np.random.Generator) -> NDArray[np.complex64]:
    """CSI `[n, a, s]` with white noise of `noise` times each snapshot's amplitude."""
    amplitude = np.sqrt(np.square(np.abs(csi)).mean(axis=(1, 2), keepdims=True) / 2)
    white = random.normal(size=csi.shape) + 1j * random.normal(size=csi.shape)
    return (csi + noise * amplitude * white).astype(np.complex64)


def _median(look_up: Callable[[slice], object], users: int) -> float:
    """The median of the fastest round, which other work on the machine disturbed least."""
    seconds = np.empty((_ROUNDS, users))
    for at in np.ndindex(seconds.shape):
        started = time.perf_counter()
        look_up(slice(at[1], at[1] + 1))
        seconds[at] = time.perf_counter() - started
    return float(np.median(seconds, axis=1).min())


def main() -> None:
    parser = argparse.ArgumentParser(description="Time look-ups in cells of growing size.")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="fingerprints of a cell")
    sizes = parser.parse_args().sizes
    faiss.omp_set_num_threads(1)
    with threadpool_limits(1):
        table = markdown([measure(size) for size in sizes])
    RESULT.write_text(
        f"    python -m benchmarks.reference_db\n\n{(__doc__ or '').partition(chr(10))[2].strip()}\n\n{table}"
    )
    print(table)


if __name__ == "__main__":
    main()
