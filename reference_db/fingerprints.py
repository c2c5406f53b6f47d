"""Fingerprints in memory, and the checks that they must pass before a cell accepts them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference_db.cell import Cell
from reference_db.errors import BadFingerprint, TooFewFingerprints
from reference_db.geodesy import LocalFrame
from reference_db.half_csi import largest_components, pack_csi

# Between these amplitudes the power of a whole snapshot is a normal float32.
_FAINTEST, _LOUDEST = 1e-15, 1e15
# Beyond 100 km a float32 position is coarser than a centimetre. No cell is that large.
FARTHEST_M = 1e5
_VAGUEST = 100.0  # metres: a label with a larger error is useless
_LAST_TIME = 253_402_300_800.0  # the year 10000: a larger value is probably in milliseconds
_EARLIEST_TIME = datetime(2010, 1, 1, tzinfo=UTC).timestamp()  # clocks that have never been set start before it
_CLOCK_TOLERANCE = 60.0  # seconds
_PLACES_ADVICE = "check the units and the order of the positions, and the place of the base station"


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """n fingerprints of one cell.

    `csi` is complex64 `[n, antennas, subcarriers]`. `positions` is float32 `[n, 2]`, metres east and north of the base
    station. `times` is float64 `[n]`, Unix seconds of the measurement, 0 if unknown. `sigmas` is float32 `[n]`, the
    1-sigma error of the position label in metres.

    Raises `ValueError` if an array has the wrong length, rank or dtype.
    """

    csi: NDArray[np.complex64]
    positions: NDArray[np.float32]
    times: NDArray[np.float64]
    sigmas: NDArray[np.float32]

    def __post_init__(self) -> None:
        n = len(self.csi) if self.csi.ndim else 0
        if self.csi.ndim != 3 or self.csi.dtype != np.complex64:
            raise ValueError(
                f"csi is {self.csi.dtype} {list(self.csi.shape)}, expected complex64 [n, antennas, subcarriers]"
            )
        for name, array, shape, dtype in (
            ("positions", self.positions, (n, 2), np.float32),
            ("times", self.times, (n,), np.float64),
            ("sigmas", self.sigmas, (n,), np.float32),
        ):
            if array.shape != shape or array.dtype != dtype:
                expected = f"{np.dtype(dtype)} {list(shape)}"
                raise ValueError(f"{name} is {array.dtype} {list(array.shape)}, expected {expected}")

    def __len__(self) -> int:
        return len(self.csi)


def check_fingerprints(fingerprints: Fingerprints, cell: Cell) -> None:
    """Checks that `cell` can use these fingerprints.

    Raises `BadFingerprint` for the first row that fails the first failing check. The checks are: CSI has the cell's
    shape, is finite, is not all zero and has an amplitude whose power float32 can hold; the position is finite, within
    100 km and inside the cell's area; the time is not negative and before the year 10000; the label error is positive
    and at most 100 m; the row is not a copy of an earlier one. Raises `TooFewFingerprints` if there is no row.
    """
    if len(fingerprints) == 0:
        raise TooFewFingerprints(wanted=1, available=0)
    for fault in find_faults(fingerprints, cell):
        raise BadFingerprint(fault.row, fault.reason)


class Fault(NamedTuple):
    """A check that fingerprints fail: the first row that does, how many do, and what to do."""

    row: int
    reason: str
    rows: int
    advice: str = "correct or drop the row"


def find_faults(fingerprints: Fingerprints, cell: Cell) -> Iterator[Fault]:
    """Every check of `check_fingerprints` that fails, in its order. Nothing more where CSI has another shape."""
    shape = fingerprints.csi.shape[1:]
    if shape != (cell.antennas, cell.subcarriers):
        advice = "state the axes of the file (--axes), or correct the description of the cell"
        yield Fault(0, _describe_shape(shape, cell), len(fingerprints), advice)
        return
    peaks = largest_components(fingerprints.csi)  # NaN if a snapshot contains NaN, so one pass finds every fault
    positions, times, sigmas = fingerprints.positions, fingerprints.times, fingerprints.sigmas
    ranges = np.linalg.norm(positions.astype(np.float64), axis=1)
    checks = [
        (~np.isfinite(peaks), "csi contains NaN or infinity"),
        (peaks == 0, "csi is all zero"),
        (
            (peaks != 0) & ((peaks < _FAINTEST) | (peaks > _LOUDEST)),
            f"csi amplitude is outside {_FAINTEST:g} to {_LOUDEST:g}",
        ),
        (~np.isfinite(ranges), "position contains NaN or infinity"),
        (np.isfinite(ranges) & (ranges > FARTHEST_M), _describe_far(positions, ranges, cell)),
    ]
    if cell.area is not None:
        checks.append((~cell.area.holds(positions), "position is outside the area of the cell"))
    checks += [
        (~(np.isfinite(times) & (times >= 0)), "time must be a finite number of seconds since 1970, not negative"),
        (times >= _LAST_TIME, "time is after the year 9999: it must be in seconds since 1970, not in milliseconds"),
        (~(np.isfinite(sigmas) & (sigmas > 0)), "sigma must be a positive number of metres"),
        (sigmas > _VAGUEST, f"sigma is more than {_VAGUEST:g} m"),
    ]
    for faults, reason in checks:
        for fault in _find_fault(faults, reason):
            yield fault._replace(advice=_PLACES_ADVICE) if reason.startswith("position is") else fault
    if np.isfinite(peaks).all():  # packing needs finite CSI
        yield from _find_duplicates(fingerprints)


def check_times(times: NDArray[np.float64], now: datetime) -> None:
    """Checks `times` `[n]`, Unix seconds or 0 for unknown, against the time of the change that adds the fingerprints.

    Raises `BadFingerprint` for the first that is after `now` by more than a minute, or before the year 2010.
    """
    _refuse(times > now.timestamp() + _CLOCK_TOLERANCE, "time is in the future")
    _refuse((times != 0) & (times < _EARLIEST_TIME), "time is before 2010; use 0 if it is unknown")


def fingerprint_ids(
    packed_csi: NDArray[np.float16],
    scale: NDArray[np.float32],
    positions: NDArray[np.float32],
    times: NDArray[np.float64],
    sigmas: NDArray[np.float32],
) -> NDArray[np.uint64]:
    """Hashes each fingerprint as it is stored: its id, uint64 `[n]`.

    Takes packed CSI `[n, antennas, subcarriers, 2]` with its scale `[n]`, positions `[n, 2]`, times and sigmas `[n]`.
    Equal rows get equal ids on every machine and in every version of a cell.
    """
    rows = len(packed_csi)
    csi = np.ascontiguousarray(packed_csi, dtype="<f2").reshape(rows, -1)
    labels = np.ascontiguousarray(np.column_stack([scale, positions, times, sigmas]), dtype="<f8")
    ids = np.empty(rows, dtype=np.uint64)
    for row in range(rows):
        name = blake2b(csi[row].data, digest_size=8)
        name.update(labels[row].data)
        ids[row] = int.from_bytes(name.digest(), "little")
    return ids


def _refuse(faults: NDArray[np.bool_], reason: str) -> None:
    for fault in _find_fault(faults, reason):
        raise BadFingerprint(fault.row, fault.reason)


def _find_fault(faults: NDArray[np.bool_], reason: str) -> Iterator[Fault]:
    if faults.any():
        yield Fault(int(faults.argmax()), reason, int(faults.sum()))


def _describe_shape(shape: tuple[int, ...], cell: Cell) -> str:
    exchanged = shape == (cell.subcarriers, cell.antennas)
    return (
        f"csi has {shape[0]} antennas and {shape[1]} subcarriers, "
        f"but cell {cell.cell_id!r} has {cell.antennas} and {cell.subcarriers}"
        + ("; it is transposed, its axes are samples,subcarriers,antennas" if exchanged else "")
    )


def _describe_far(positions: NDArray[np.float32], ranges: NDArray[np.float64], cell: Cell) -> str:
    """Why positions may be so far away: the first that is, with latitude and longitude exchanged, may be near."""
    reason = f"position is more than {FARTHEST_M / 1e3:g} km from the base station"
    far = np.flatnonzero(np.isfinite(ranges) & (ranges > FARTHEST_M))
    if not len(far):
        return reason
    frame = LocalFrame(cell.latitude_deg, cell.longitude_deg)
    latitude_deg, longitude_deg = frame.to_wgs84(*positions[far[0]].tolist())
    if abs(longitude_deg) <= 90:
        distance = math.hypot(*frame.to_local(longitude_deg, latitude_deg))
        if distance <= FARTHEST_M:
            return f"{reason}; with latitude and longitude exchanged it is {distance:.0f} m away, so they are exchanged"
    return f"{reason}; they are metres from the base station, no map coordinates (cells convert takes --origin)"


def _find_duplicates(fingerprints: Fingerprints) -> Iterator[Fault]:
    packed, scale = pack_csi(fingerprints.csi)
    ids = fingerprint_ids(packed, scale, fingerprints.positions, fingerprints.times, fingerprints.sigmas)
    first_seen: dict[int, int] = {}
    copies = [
        (row, first) for row, name in enumerate(ids.tolist()) if (first := first_seen.setdefault(name, row)) != row
    ]
    if copies:
        yield Fault(copies[0][0], f"duplicate of row {copies[0][1]}", len(copies))
