"""Finds the fingerprints whose signal is most similar to a request."""

from collections.abc import Mapping
from copy import copy
from typing import Any, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from reference_db.errors import TooFewFingerprints
from reference_db.index.signal_features import Features
from reference_db.index.signal_lists import SignalLists

# The likelihood that a request was measured near a fingerprint falls with this power of their distance. A power law
# has no scale, so it suits noisy radios, whose distances are all large, as well as radios with little noise.
SHARPNESS = 24

# As many principal components tell positions apart as well as the thousands of numbers of a whole feature.
_COMPONENTS, _SAMPLE = 128, 1024

# Cells up to this size are searched exhaustively. That takes no longer than reading the lists of a cell of a million.
_FLAT = 8192

_AT_ONCE = 2048  # appended features that are computed at once
_NEAREST = 3  # fingerprints that a distance to the most similar ones is averaged over

_Floats = NDArray[np.float32]
_Rows = NDArray[np.int64]


class SignalIndex:
    """A nearest-neighbour index over signal features: FAISS over the cell's own principal components.

    Immutable; threads may share it. Apart from rounding, a result does not depend on the other queries of its call.
    Small cells are searched exactly, large ones only in the most promising lists (see `SignalLists`).

    Args:
        features: float32 `[n, D]` from `signal_feature`, n at least 1. `SignalFeatures` computes them when needed.
        delay_weight: 0 to 1, the share of the feature's second half (absolute delays) in a squared distance. The first
            half, which is delay-compensated, has the rest.

    Raises:
        ValueError: features of another shape, or a weight outside 0 to 1.
    """

    def __init__(self, features: Features, delay_weight: float = 0.5) -> None:
        n = len(features)
        sample = features[np.linspace(0, n - 1, min(n, _SAMPLE)).astype(np.int64)]
        if sample.ndim != 2 or sample.shape[1] % 2:
            raise ValueError(f"features have shape {[n, *sample.shape[1:]]}, not [n, D] with an even D")
        if not 0 <= delay_weight <= 1:
            raise ValueError(f"delay_weight is {delay_weight}, must be 0 to 1")
        self.delay_weight = delay_weight
        self._size, self._dimensions = n, sample.shape[1]
        weights = np.sqrt(np.repeat(np.array([1 - delay_weight, delay_weight], np.float32), sample.shape[1] // 2))
        self._components = weights[:, np.newaxis] * _principal(weights * sample)  # [D, c]

        def vectors_of(rows: _Rows) -> _Floats:
            vectors: _Floats = features[rows] @ self._components
            return vectors

        self._vectors = _Flat(vectors_of(np.arange(n))) if n <= _FLAT else SignalLists(n, vectors_of)

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The index that `arrays` came from. Copies the arrays."""
        made = cls.__new__(cls)
        made.delay_weight = float(arrays["delay_weight"])
        made._components = np.array(arrays["components"], np.float32)
        made._size, made._dimensions = len(arrays["vectors"]), len(made._components)
        made._vectors = SignalLists.of_arrays(arrays) if "centres" in arrays else _Flat(arrays["vectors"])
        return made

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What another process needs to have the same index. Only of an index that was not extended."""
        weight = {"delay_weight": np.array(self.delay_weight), "components": self._components}
        return weight | self._vectors.arrays()

    def extended(self, features: Features) -> "SignalIndex":
        """An index that also holds k more fingerprints, features `[k, D]`, as rows n to n + k - 1.

        It keeps the principal components and the delay weight and shares the lists of this index. Raises `ValueError`
        for features of another shape or not finite.
        """
        rows = np.arange(len(features))
        vectors = [self._reduced(features[some]) for some in np.split(rows, range(_AT_ONCE, len(rows), _AT_ONCE))]
        longer = copy(self)
        longer._size += len(rows)
        longer._vectors = self._vectors.extended(np.concatenate(vectors))
        return longer

    def __len__(self) -> int:
        return self._size

    def nearest(self, features: _Floats, k: int) -> tuple[_Rows, _Floats]:
        """The k fingerprints most similar to each of `features` `[b, D]`.

        Returns indices int64 and distances float32, both `[b, k]`, most similar first. Raises `TooFewFingerprints` if
        k exceeds the size of the index, and `ValueError` for features of another shape or not finite, or a k below 1.
        """
        if k < 1:
            raise ValueError(f"k is {k}, must be at least 1")
        if k > len(self):
            raise TooFewFingerprints(wanted=k, available=len(self))
        indices, squared = self._vectors.nearest(self._reduced(features), k)
        return indices, np.sqrt(np.maximum(squared, 0))

    def nearest_of(
        self, candidates: _Rows, allowed: NDArray[np.bool_], features: _Floats, k: int
    ) -> tuple[_Rows, _Floats]:
        """Like `nearest`, but only among `candidates` `[m]`, and for each row only those that `allowed` `[b, m]` marks.

        Raises `TooFewFingerprints` if a row allows fewer than k, and the errors of `nearest`.
        """
        if allowed.shape != (len(features), len(candidates)):
            raise ValueError(f"allowed has shape {list(allowed.shape)}, not {[len(features), len(candidates)]}")
        if len(features) and k > (most := int(allowed.sum(axis=1).min())):
            raise TooFewFingerprints(wanted=k, available=most)
        asked = self._reduced(features)
        held, powers = self._vectors.of(candidates)
        apart = asked @ (-2 * held.T)
        apart += powers
        apart[~allowed] = np.inf
        best = np.argpartition(apart, k - 1, axis=1)[:, :k] if k < len(candidates) else np.argsort(apart, axis=1)
        squared = np.take_along_axis(apart, best, axis=1)
        order = np.argsort(squared, axis=1, kind="stable")
        squared = np.take_along_axis(squared, order, axis=1) + np.square(asked).sum(axis=1, keepdims=True)
        return candidates[np.take_along_axis(best, order, axis=1)], np.sqrt(np.maximum(squared, 0))

    def spacing(self, rows: _Rows) -> _Floats:
        """The mean squared distance of fingerprints to those most similar to them among `rows` `[b, k]`: `[b]`.

        `rows` are the fingerprints most similar to a request: they are about as far from each other as from a user
        among them. 0 where k is 1.
        """
        vectors, powers = self._vectors.of(rows.ravel())
        vectors, powers = vectors.reshape(*rows.shape, -1), powers.reshape(rows.shape)
        apart = powers[:, :, np.newaxis] + powers[:, np.newaxis] - 2 * (vectors @ vectors.mT)  # [b, k, k]
        near = min(_NEAREST + 1, rows.shape[1])  # with itself
        nearest = np.partition(apart, near - 1, axis=2)[:, :, :near]
        spacing: _Floats = np.maximum(nearest.sum(axis=(1, 2)) / (rows.shape[1] * max(near - 1, 1)), 0)
        return spacing

    @property
    def resident_bytes(self) -> int:
        """Bytes of memory in use, including those shared with the index that this one was extended from."""
        return self._components.nbytes + self._vectors.resident_bytes

    def _reduced(self, features: _Floats) -> _Floats:
        """Principal components `[b, c]` of features `[b, D]`; raises `ValueError` for another shape or NaN."""
        if features.ndim != 2 or features.shape[1] != self._dimensions or not np.isfinite(features).all():
            raise ValueError(f"features must be finite and of shape [b, {self._dimensions}]")
        reduced: _Floats = features @ self._components
        return reduced


class _Flat:
    def __init__(self, *vectors: _Floats) -> None:
        components = vectors[0].shape[1]
        self._index = faiss.IndexFlatL2(components)
        for some in vectors:
            self._index.add(some)
        held = faiss.rev_swig_ptr(self._index.get_xb(), self._index.ntotal * components)  # a view of FAISS's memory
        self._held: _Floats = held.reshape(-1, components)
        self._powers: _Floats = np.square(self._held).sum(axis=1)

    def extended(self, vectors: _Floats) -> "_Flat":
        return _Flat(self._held, vectors)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"vectors": self._held}

    def nearest(self, vectors: _Floats, k: int) -> tuple[_Rows, _Floats]:
        squared, indices = self._index.search(vectors, k)
        return indices, squared

    @property
    def resident_bytes(self) -> int:
        return self._held.nbytes + self._powers.nbytes

    def of(self, rows: _Rows) -> tuple[_Floats, _Floats]:
        whole = len(rows) == len(self._held)
        return (self._held, self._powers) if whole else (self._held[rows], self._powers[rows])


def _principal(sample: _Floats) -> _Floats:
    """Principal directions `[D, c]`, orthonormal, of features `[s, D]` that are not centred first."""
    powers, vectors = (found[..., -_COMPONENTS:] for found in np.linalg.eigh((sample @ sample.T).astype(np.float64)))
    kept = powers > 1e-6 * powers[-1]
    components: _Floats = (sample.T @ (vectors[:, kept] / np.sqrt(powers[kept]))).astype(np.float32)
    return components
