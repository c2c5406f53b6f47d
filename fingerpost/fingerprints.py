"""Fingerprints as programs hold them, and the file that carries them to the service."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fingerpost.csi import refuse_masked, to_complex64
from fingerpost.wire_fingerprints import DEFAULT_SIGMA

_DIMENSIONS = "[fingerprints, antennas, subcarriers]"
_UNKNOWN_TIME = 0.0


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """CSI and where it was measured.

    `csi` is complex `[fingerprints, antennas, subcarriers]`. `positions` are metres east and north of the base station,
    `[fingerprints, 2]`; or `latitudes` and `longitudes` are WGS84 degrees, `[fingerprints]`. `times` are the times of
    measurement, where known; `sigmas` the 1-sigma errors of the positions in metres, or one number for all.
    """

    csi: ArrayLike
    positions: ArrayLike | None = None
    latitudes: ArrayLike | None = None
    longitudes: ArrayLike | None = None
    times: Sequence[datetime | None] | None = None
    sigmas: ArrayLike = DEFAULT_SIGMA

    def encode(self, cell: str | None = None) -> bytes:
        """An .npz file as the service imports it. `cell` is the description of the cell as JSON, if it goes along.

        Raises `ValueError` if an array has another length or other dimensions, or is not finite.
        """
        csi = to_complex64(self.csi, _DIMENSIONS)
        arrays: dict[str, NDArray[Any]] = {"csi": csi}
        n = len(csi)
        if self.positions is not None and self.latitudes is None and self.longitudes is None:
            arrays["positions"] = _numbers("positions", self.positions, (n, 2))
        elif self.positions is None and self.latitudes is not None and self.longitudes is not None:
            arrays["latitudes_deg"] = _numbers("latitudes", self.latitudes, (n,))
            arrays["longitudes_deg"] = _numbers("longitudes", self.longitudes, (n,))
        else:
            raise ValueError("fingerprints have either positions, or latitudes and longitudes")
        if self.times is not None:
            stamps = [_UNKNOWN_TIME if one is None else one.timestamp() for one in self.times]
            arrays["times"] = _numbers("times", stamps, (n,))
        sigmas = np.broadcast_to(self.sigmas, (n,)) if np.ndim(self.sigmas) == 0 else self.sigmas
        arrays["sigmas"] = _numbers("sigmas", sigmas, (n,))
        if cell is not None:
            arrays["cell"] = np.array(cell)
        file = BytesIO()
        np.savez(file, allow_pickle=False, **arrays)
        return file.getvalue()


def _numbers(name: str, values: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    refuse_masked(name, values)
    array = np.asarray(values, np.float64)
    if array.shape != shape:
        raise ValueError(f"{name} must have the shape {list(shape)}, not {list(array.shape)}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has NaN or infinity")
    return array
