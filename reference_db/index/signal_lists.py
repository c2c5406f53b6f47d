"""Approximate nearest-neighbour search for the signals of a large cell: inverted lists around centres."""

from collections.abc import Callable, Iterator, Mapping
from copy import copy
from typing import Any, Self

import faiss
import numpy as np
from numpy.typing import NDArray

_SAMPLE = 50  # vectors per list that the centres are trained on
_READ = 12  # a search reads at least so many lists, and lists that hold so many times k vectors on average
_AT_ONCE = 2048  # vectors that are computed and added at once

# For many queries at once FAISS multiplies matrices, and its rounding then depends on the other queries. The choice of
# lists must not. With a selector, here one that selects everything, FAISS computes each distance by itself.
_EACH = faiss.SearchParameters(sel=faiss.IDSelectorAll())  # type: ignore[call-arg]  # missing in its stubs

_BY_ID = faiss.InvertedLists.SUBSET_TYPE_ID_RANGE  # type: ignore[attr-defined]  # missing in its stubs

_Floats = NDArray[np.float32]
_Rows = NDArray[np.int64]


class SignalLists:
    """n vectors in lists by the nearest of about 2 sqrt(n) centres: FAISS `IndexIVFScalarQuantizer`.

    A search reads only the lists whose centres are nearest, so it may miss a vector. The same vectors make the same
    lists. Appended vectors go into separate lists around the same centres.

    The index holds float16. That changes a distance by less than 1e-3 and takes two thirds of the time of float32. A
    second float16 copy, by row, returns single vectors in half the time that FAISS takes. Together they are as large
    as one copy in float32.

    `vectors_of` returns the vectors float32 `[r, c]` of rows int64 `[r]`. It is called for about two thousand rows at
    a time, for some rows twice.
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

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The lists that `arrays` came from. Copies the arrays; takes a fraction of the time of making the lists."""
        made = cls.__new__(cls)
        made._held = np.array(arrays["vectors"], np.float16)
        made._size, components = made._held.shape
        made._lists = len(arrays["centres"])
        made._centres = faiss.IndexFlatL2(components)
        made._centres.add(np.ascontiguousarray(arrays["centres"], np.float32))
        made._index = made._no_vectors(components)
        made._index.is_trained = True  # training would only compute the centres
        lists, ends = _inverted(made._index), np.cumsum(arrays["sizes"])[:-1]
        listed = zip(np.split(arrays["rows"], ends), np.split(arrays["codes"], ends), strict=True)
        for number, (rows, codes) in enumerate(listed):
            if len(rows):
                lists.add_entries(number, len(rows), faiss.swig_ptr(rows), faiss.swig_ptr(codes))
        made._index.ntotal = made._size
        made._later, made._held_later = None, made._held[:0]
        return made

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Of n vectors in l lists: `vectors` float16 `[n, c]`, `centres` float32 `[l, c]`, and `sizes` int64 `[l]`.

        List by list their `rows` int64 `[n]` and `codes` uint8 `[n, 2c]`, which FAISS rounds otherwise than NumPy.

        Only of lists that were not extended.
        """
        assert self._later is None
        lists, components = _inverted(self._index), self._held.shape[1]
        sizes = np.array([lists.list_size(number) for number in range(self._lists)], np.int64)
        rows, codes = np.empty(self._size, np.int64), np.empty((self._size, lists.code_size), np.uint8)
        for number, end in enumerate(np.cumsum(sizes).tolist()):
            if size := int(sizes[number]):
                rows[end - size : end] = faiss.rev_swig_ptr(lists.get_ids(number), size)
                held = faiss.rev_swig_ptr(lists.get_codes(number), size * lists.code_size)
                codes[end - size : end] = held.reshape(size, -1)
        centres = faiss.rev_swig_ptr(self._centres.get_xb(), self._lists * components).reshape(-1, components)
        return {"vectors": self._held, "centres": centres, "sizes": sizes, "rows": rows, "codes": codes}

    def extended(self, vectors: _Floats) -> "SignalLists":
        """These lists, shared, and k more vectors `[k, c]` as rows n to n + k - 1."""
        longer = copy(self)
        longer._size += len(vectors)
        longer._later = self._no_vectors(vectors.shape[1])
        longer._later.is_trained = True  # training would only compute the centres
        if self._later is not None:
            self._later.copy_subset_to(longer._later, _BY_ID, 0, self._size)
        longer._later.add_with_ids(vectors, np.arange(self._size, longer._size))
        longer._held_later = np.concatenate([self._held_later, vectors.astype(np.float16)])
        return longer

    def nearest(self, vectors: _Floats, k: int) -> tuple[_Rows, _Floats]:
        """Rows int64 and squared distances float32 `[b, k]`, nearest first; k at most n."""
        squared, rows = self._read(vectors, k, min(self._lists, max(_READ, -(-_READ * k * self._lists // self._size))))
        short = rows[:, -1] < 0  # fewer than k vectors are in the lists read
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
        """Bytes of memory in use, including those shared with the lists that these were extended from."""
        vectors = self._held.nbytes + self._held_later.nbytes
        return 2 * vectors + 8 * self._size + 4 * self._lists * self._held.shape[1]  # and the row numbers and centres

    def _read(self, vectors: _Floats, k: int, lists: int) -> tuple[_Floats, _Rows]:
        reading = faiss.SearchParametersIVF(nprobe=lists, quantizer_params=_EACH)  # type: ignore[call-arg]
        squared, rows = self._index.search(vectors, k, params=reading)
        if self._later is not None:
            theirs, later = self._later.search(vectors, k, params=reading)
            squared, rows = np.concatenate([squared, theirs], axis=1), np.concatenate([rows, later], axis=1)
            order = squared.argsort(axis=1, kind="stable")[:, :k]  # a missing vector is at the largest float32
            squared, rows = np.take_along_axis(squared, order, axis=1), np.take_along_axis(rows, order, axis=1)
        return squared, rows

    def _no_vectors(self, components: int) -> faiss.IndexIVFScalarQuantizer:
        return faiss.IndexIVFScalarQuantizer(
            self._centres,
            components,
            self._lists,
            faiss.ScalarQuantizer.QT_fp16,
            faiss.METRIC_L2,
            False,  # encodes the vectors themselves, not their differences from the centres
        )


def _inverted(index: faiss.IndexIVFScalarQuantizer) -> faiss.InvertedLists:
    assert index.invlists is not None
    return index.invlists


def _portions(rows: _Rows) -> Iterator[_Rows]:
    yield from np.split(rows, range(_AT_ONCE, len(rows), _AT_ONCE))
