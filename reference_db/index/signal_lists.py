"""The signals of a large cell, in lists of which a search reads few."""

from collections.abc import Callable, Iterator
from copy import copy

import faiss
import numpy as np
from numpy.typing import NDArray

_SAMPLE = 50  # vectors a list that the lists' centres are made of
_READ = 12  # lists that a search reads at least; on average they hold as many times what is sought
_AT_ONCE = 2048  # vectors that are made and added at once

# Which centres are nearest must not depend on rounding that depends on the company: for many searches FAISS
# multiplies matrices, but never in a search that selects, be it everything.
_EACH = faiss.SearchParameters(sel=faiss.IDSelectorAll())  # type: ignore[call-arg]  # missing in its stubs

_BY_ID = faiss.InvertedLists.SUBSET_TYPE_ID_RANGE  # type: ignore[attr-defined]  # missing in its stubs

_Floats = NDArray[np.float32]
_Rows = NDArray[np.int64]


class SignalLists:
    """n vectors by the nearest of about 2 sqrt(n) centres: FAISS `IndexIVFScalarQuantizer`.

    It holds float16, which moves a distance by less than 1e-3 and is read in two thirds of the time of float32. A
    second copy, by row, gives a few of them in half the time that FAISS takes: together they are as large as float32.
    `vectors_of` makes the vectors float32 `[r, c]` of rows int64 `[r]`; it is asked for some thousand rows at a time,
    for some of them twice. Searches read the lists whose centres are nearest and so may miss a vector. The same vectors
    make the same lists. What is appended goes into lists of its own, around the same centres.
    """

    def __init__(self, n: int, vectors_of: Callable[[_Rows], _Floats]) -> None:
        self._size, self._lists = n, int(2 * np.sqrt(n))
        sample = np.linspace(0, n - 1, min(n, _SAMPLE * self._lists)).astype(np.int64)
        vectors = np.concatenate([vectors_of(some) for some in _portions(sample)])
        components = vectors.shape[1]
        self._centres = faiss.IndexFlatL2(components)
        self._index = self._no_vectors(components)
        self._index.train(vectors)
        self._held = np.empty((n, components), np.float16)
        for some in _portions(np.arange(n)):
            vectors = vectors_of(some)
            self._held[some] = vectors
            self._index.add(vectors)
        self._later: faiss.IndexIVFScalarQuantizer | None = None
        self._held_later = self._held[:0]

    def extended(self, vectors: _Floats) -> "SignalLists":
        """These lists, shared, and vectors `[k, c]` that come after them, as rows n to n + k - 1."""
        longer = copy(self)
        longer._size += len(vectors)
        longer._later = self._no_vectors(vectors.shape[1])
        longer._later.is_trained = True  # nothing but its centres, which are there
        if self._later is not None:
            self._later.copy_subset_to(longer._later, _BY_ID, 0, self._size)
        longer._later.add_with_ids(vectors, np.arange(self._size, longer._size))
        longer._held_later = np.concatenate([self._held_later, vectors.astype(np.float16)])
        return longer

    def nearest(self, vectors: _Floats, k: int) -> tuple[_Rows, _Floats]:
        """Rows int64 and squared distances float32 `[b, k]`, nearest first; k at most n."""
        squared, rows = self._read(vectors, k, min(self._lists, max(_READ, -(-_READ * k * self._lists // self._size))))
        short = rows[:, -1] < 0  # their lists hold fewer
        if short.any():
            squared[short], rows[short] = self._read(vectors[short], k, self._lists)
        return rows, squared

    def of(self, rows: _Rows) -> tuple[_Floats, _Floats]:
        """The vectors of rows `[m]`, float32 `[m, c]`, and their squared lengths `[m]`."""
        later = rows >= len(self._held)
        if later.any():
            held = np.empty((len(rows), self._held.shape[1]), np.float16)
            held[~later] = self._held[rows[~later]]
            held[later] = self._held_later[rows[later] - len(self._held)]
        else:
            held = self._held[rows]
        vectors = held.astype(np.float32)
        return vectors, np.einsum("mc,mc->m", vectors, vectors)

    @property
    def resident_bytes(self) -> int:
        """Bytes of memory that it takes, those included that it shares with what it was extended from."""
        vectors = self._held.nbytes + self._held_later.nbytes
        return 2 * vectors + 8 * self._size + 4 * self._lists * self._held.shape[1]  # rows; centres

    def _read(self, vectors: _Floats, k: int, lists: int) -> tuple[_Floats, _Rows]:
        reading = faiss.SearchParametersIVF(nprobe=lists, quantizer_params=_EACH)  # type: ignore[call-arg]
        squared, rows = self._index.search(vectors, k, params=reading)
        if self._later is not None:
            theirs, later = self._later.search(vectors, k, params=reading)
            squared, rows = np.concatenate([squared, theirs], axis=1), np.concatenate([rows, later], axis=1)
            order = squared.argsort(axis=1, kind="stable")[:, :k]  # missing ones are as far as float32 goes
            squared, rows = np.take_along_axis(squared, order, axis=1), np.take_along_axis(rows, order, axis=1)
        return squared, rows

    def _no_vectors(self, components: int) -> faiss.IndexIVFScalarQuantizer:
        return faiss.IndexIVFScalarQuantizer(
            self._centres,
            components,
            self._lists,
            faiss.ScalarQuantizer.QT_fp16,
            faiss.METRIC_L2,
            False,  # the vectors themselves, not what they differ by from their centres
        )


def _portions(rows: _Rows) -> Iterator[_Rows]:
    yield from np.split(rows, range(_AT_ONCE, len(rows), _AT_ONCE))
