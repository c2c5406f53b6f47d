"""The arrays of an import file as fingerprints: CSI, positions in metres or degrees, times and sigmas."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from reference_db.cell import Cell
from reference_db.errors import BadFingerprint, BadFingerprintFile
from reference_db.fingerprints import Fingerprints
from reference_db.geodesy import LocalFrame
from reference_db.half_csi import as_complex, unpack_csi

UNKNOWN_TIME = 0.0
DEFAULT_SIGMA = 0.05
WGS84 = {"latitudes_deg", "longitudes_deg"}

_METRES_PER_DEGREE = 111_320.0  # of latitude; of longitude less

_Arrays = dict[str, NDArray[np.generic]]
_Real = TypeVar("_Real", np.float32, np.float64)


def make_fingerprints(arrays: _Arrays, cell: Cell) -> Fingerprints:
    """Fingerprints of `cell` from arrays in the convention of import files. Fills in absent `times` and `sigmas`.

    Raises `BadFingerprintFile` for missing or malformed arrays, and `BadFingerprint` for an impossible latitude or
    longitude, and for a type of array that rounds a position by more than the error of its label.
    """
    csi = read_csi(arrays)
    n = len(csi)
    arrays.setdefault("times", np.full(n, UNKNOWN_TIME))
    arrays.setdefault("sigmas", np.full(n, DEFAULT_SIGMA))
    fingerprints = Fingerprints(
        csi=csi,
        positions=_positions(arrays, n, cell),
        times=_real(arrays, "times", (n,), np.float64),
        sigmas=_real(arrays, "sigmas", (n,), np.float32),
    )
    for name in ("positions", "latitudes_deg", "longitudes_deg"):
        if name in arrays:
            _check_resolution(arrays[name], name, fingerprints.sigmas)
    return fingerprints


def read_csi(arrays: _Arrays) -> NDArray[np.complex64]:
    """The CSI `[n, antennas, subcarriers]`. Raises `BadFingerprintFile` unless it is complex or real pairs."""
    raw = arrays["csi"]
    if raw.ndim == 3 and np.iscomplexobj(raw):
        if "scale" in arrays:
            raise BadFingerprintFile("scale is only allowed with csi of real pairs")
        with np.errstate(over="ignore"):  # overflow becomes infinity, which the check reports with its row
            return np.ascontiguousarray(raw, dtype=np.complex64)
    if raw.ndim == 4 and raw.shape[-1] == 2 and raw.dtype.kind in "fi":
        n = len(raw)
        scale = _real(arrays, "scale", (n,), np.float32) if "scale" in arrays else np.ones(n, np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            return as_complex(unpack_csi(np.ascontiguousarray(raw, dtype=np.float32), scale))
    raise BadFingerprintFile(
        f"csi is {raw.dtype} {list(raw.shape)}, expected complex [n, antennas, subcarriers] "
        "or real [n, antennas, subcarriers, 2]"
    )


def _positions(arrays: _Arrays, n: int, cell: Cell) -> NDArray[np.float32]:
    wgs84 = WGS84 & arrays.keys()
    if "positions" in arrays and not wgs84:
        return _real(arrays, "positions", (n, 2), np.float32)
    if "positions" in arrays or wgs84 != WGS84:
        raise BadFingerprintFile("the file needs either positions or both latitudes_deg and longitudes_deg")
    latitudes = _real(arrays, "latitudes_deg", (n,), np.float64)
    longitudes = _real(arrays, "longitudes_deg", (n,), np.float64)
    outside = ~((np.abs(latitudes) <= 90) & (np.abs(longitudes) <= 180))
    if outside.any():
        raise BadFingerprint(int(outside.argmax()), "latitude must be within 90 and longitude within 180 degrees")
    frame = LocalFrame(cell.latitude_deg, cell.longitude_deg)
    return np.stack(frame.to_local(latitudes, longitudes), axis=1).astype(np.float32)


def _real(arrays: _Arrays, name: str, shape: tuple[int, ...], dtype: type[_Real]) -> NDArray[_Real]:
    raw = arrays[name]
    if raw.shape != shape or raw.dtype.kind not in "fiu":
        raise BadFingerprintFile(f"{name} is {raw.dtype} {list(raw.shape)}, expected real numbers {list(shape)}")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(raw, dtype=dtype)


def _check_resolution(raw: NDArray[np.generic], name: str, sigmas: NDArray[np.float32]) -> None:
    """Raises `BadFingerprint` if the type of an array rounds a position by more than the error of its label."""
    metres = _METRES_PER_DEGREE if name in WGS84 else 1.0
    exact = np.float64 if name in WGS84 else np.float32
    if raw.dtype.kind != "f" or raw.dtype.itemsize >= np.dtype(exact).itemsize:
        return
    steps = np.abs(np.spacing(raw)).max(axis=tuple(range(1, raw.ndim)), initial=0.0).astype(np.float64) * metres
    coarse = steps / 2 > sigmas
    if coarse.any():
        row = int(coarse.argmax())
        raise BadFingerprint(
            row,
            f"{raw.dtype.name} rounds {name} to steps of {steps[row]:.2g} m, too coarse for a sigma of "
            f"{sigmas[row]:.2g} m",
            f"store {name} as {np.dtype(exact).name}, or state larger sigmas",
        )
