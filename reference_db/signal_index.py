"""Which fingerprints sound most like a request."""

import faiss
import numpy as np
from numpy.typing import NDArray

from reference_db.errors import TooFewFingerprints

# The likelihood that a request comes from a fingerprint's place falls with this power of their distance: free of any
# scale, so that it holds for noisy radios, all of whose distances are large, and for quiet ones.
SHARPNESS = 24

_Floats = NDArray[np.float32]


class SignalIndex:
    """An exact nearest-neighbour index over signal features: FAISS flat in float16, immutable, safe to share.

    `features` is float32 `[n, D]` as `signal_feature` makes them. `timing_trust`, 0 to 1, is the share of the second
    half, delays as measured, in a squared distance; the first half, blind to them, has the rest. An answer does not
    depend on what else is asked in the same call.
    """

    def __init__(self, features: _Floats, timing_trust: float = 0.5) -> None:
        if features.ndim != 2 or features.shape[1] % 2:
            raise ValueError(f"features have shape {list(features.shape)}, not [n, D] with an even D")
        if not 0 <= timing_trust <= 1:
            raise ValueError(f"timing_trust is {timing_trust}, must be 0 to 1")
        self.timing_trust = timing_trust
        self._dimensions = features.shape[1]
        weighted = self._weighted(features)
        # Float16 halves the memory; what it rounds away is far below the distances between places.
        self._index = faiss.IndexScalarQuantizer(weighted.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_L2)
        self._index.add(weighted)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def nearest(
        self, features: _Floats, k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], _Floats]:
        """The k fingerprints most like each of `features` `[b, D]`: indices int64 and distances float32, `[b, k]`.

        Most alike first. `allowed` bool `[b, n]` says which fingerprints each row may be given; where fewer than k
        are, the rest is index -1 at distance infinity. Raises `TooFewFingerprints` when k exceeds the index's size,
        and `ValueError` for features or `allowed` of another shape, features not finite, or a k below 1.
        """
        if features.ndim != 2 or features.shape[1] != self._dimensions or not np.isfinite(features).all():
            raise ValueError(f"features must be finite and of shape [b, {self._dimensions}]")
        if k < 1:
            raise ValueError(f"k is {k}, must be at least 1")
        if k > len(self):
            raise TooFewFingerprints(wanted=k, available=len(self))
        weighted = self._weighted(features)
        if allowed is not None and allowed.shape != (len(features), len(self)):
            raise ValueError(f"allowed has shape {list(allowed.shape)}, not {[len(features), len(self)]}")
        if allowed is None:
            squared, indices = self._index.search(weighted, k)
        else:
            squared = np.empty((len(features), k), np.float32)
            indices = np.empty((len(features), k), np.int64)
            for row, bits in enumerate(np.packbits(allowed, axis=1, bitorder="little")):
                only = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))  # type: ignore[call-arg]
                squared[row], indices[row] = (found[0] for found in self._index.search(weighted[[row]], k, params=only))
        return indices, np.where(indices < 0, np.float32(np.inf), np.sqrt(np.maximum(squared, 0)))

    def _weighted(self, features: _Floats) -> _Floats:
        half = self._dimensions // 2
        parts = []
        if self.timing_trust < 1:
            parts.append(np.sqrt(1 - self.timing_trust) * features[:, :half])
        if self.timing_trust > 0:
            parts.append(np.sqrt(self.timing_trust) * features[:, half:])
        return np.concatenate(parts, axis=1, dtype=np.float32)
