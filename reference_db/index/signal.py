"""Which fingerprints sound most like a request."""

from copy import copy

import faiss
import numpy as np
from numpy.typing import NDArray

from reference_db.errors import TooFewFingerprints
from reference_db.index.signal_features import Features
from reference_db.index.signal_lists import SignalLists

# The likelihood that a request comes from a fingerprint's place falls with this power of their distance: free of any
# scale, so that it holds for noisy radios, all of whose distances are large, and for quiet ones.
SHARPNESS = 24

# Of features of some thousand numbers these many principal components tell places apart as well.
_COMPONENTS, _SAMPLE = 128, 1024

# Up to so many fingerprints all are compared, in no more time than a cell of a million takes to read its lists.
_FLAT = 8192

_AT_ONCE = 2048  # features that are made at once of those that are appended

_Floats = NDArray[np.float32]
_Rows = NDArray[np.int64]


class SignalIndex:
    """A nearest-neighbour index over signal features: FAISS over a cell's own principal components.

    `features` is float32 `[n, D]` as `signal_feature` makes them, n at least 1; `SignalFeatures` need not all be in
    memory. `timing_trust`, 0 to 1, is the share of the second half, delays as measured, in a squared distance; the
    first half, blind to them, has the rest. Small cells are searched exactly; of large ones the likely parts only, see
    `SignalLists`. Immutable, safe to share; but for rounding an answer does not depend on what else is asked in the
    same call.
    """

    def __init__(self, features: Features, timing_trust: float = 0.5) -> None:
        n = len(features)
        sample = features[np.linspace(0, n - 1, min(n, _SAMPLE)).astype(np.int64)]
        if sample.ndim != 2 or sample.shape[1] % 2:
            raise ValueError(f"features have shape {[n, *sample.shape[1:]]}, not [n, D] with an even D")
        if not 0 <= timing_trust <= 1:
            raise ValueError(f"timing_trust is {timing_trust}, must be 0 to 1")
        self.timing_trust = timing_trust
        self._size, self._dimensions = n, sample.shape[1]
        weights = np.sqrt(np.repeat(np.array([1 - timing_trust, timing_trust], np.float32), sample.shape[1] // 2))
        self._components = weights[:, np.newaxis] * _principal(weights * sample)  # [D, c]

        def vectors_of(rows: _Rows) -> _Floats:
            vectors: _Floats = features[rows] @ self._components
            return vectors

        self._vectors = _Flat(vectors_of(np.arange(n))) if n <= _FLAT else SignalLists(n, vectors_of)

    def extended(self, features: Features) -> "SignalIndex":
        """An index of k more fingerprints, their features `[k, D]`, as rows n to n + k - 1.

        It goes on with this one's principal components and timing trust and shares its lists. Raises `ValueError` for
        features of another shape or not finite.
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
        """The k fingerprints most like each of `features` `[b, D]`: indices int64 and distances float32, `[b, k]`.

        Most alike first. Raises `TooFewFingerprints` when k exceeds the index's size, and `ValueError` for features of
        another shape or not finite, or a k below 1.
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
        """As `nearest`, but only among the fingerprints `candidates` `[m]` that `allowed` `[b, m]` each row.

        Raises `TooFewFingerprints` where a row is allowed fewer than k, and what `nearest` raises.
        """
        if allowed.shape != (len(features), len(candidates)):
            raise ValueError(f"allowed has shape {list(allowed.shape)}, not {[len(features), len(candidates)]}")
        if len(features) and k > (most := int(allowed.sum(axis=1).min())):
            raise TooFewFingerprints(wanted=k, available=most)
        asked = self._reduced(features)
        held, powers = self._vectors.of(candidates)
        unlike = asked @ (-2 * held.T)
        unlike += powers
        unlike[~allowed] = np.inf
        best = np.argpartition(unlike, k - 1, axis=1)[:, :k] if k < len(candidates) else np.argsort(unlike, axis=1)
        squared = np.take_along_axis(unlike, best, axis=1)
        order = np.argsort(squared, axis=1, kind="stable")
        squared = np.take_along_axis(squared, order, axis=1) + np.square(asked).sum(axis=1, keepdims=True)
        return candidates[np.take_along_axis(best, order, axis=1)], np.sqrt(np.maximum(squared, 0))

    @property
    def resident_bytes(self) -> int:
        """Bytes of memory that it takes, those included that it shares with what it was extended from."""
        return self._components.nbytes + self._vectors.resident_bytes

    def _reduced(self, features: _Floats) -> _Floats:
        """Principal components `[b, c]` of features; raises `ValueError` for features that are none."""
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
        held = faiss.rev_swig_ptr(self._index.get_xb(), self._index.ntotal * components)  # its own memory, not a copy
        self._held: _Floats = held.reshape(-1, components)
        self._powers: _Floats = np.square(self._held).sum(axis=1)

    def extended(self, vectors: _Floats) -> "_Flat":
        return _Flat(self._held, vectors)

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
    """Orthonormal directions `[D, c]` in which features `[s, D]` differ most from nothing."""
    powers, vectors = (found[..., -_COMPONENTS:] for found in np.linalg.eigh((sample @ sample.T).astype(np.float64)))
    kept = powers > 1e-6 * powers[-1]
    components: _Floats = (sample.T @ (vectors[:, kept] / np.sqrt(powers[kept]))).astype(np.float32)
    return components
