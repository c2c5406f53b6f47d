"""Measures snapshots, and locates users by one base station or by several."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference_db.cell import Cell
from reference_db.geodesy import FramePlace
from reference_db.path_features import USER_HEIGHT
from service.errors import CsiHasNoSignal, EstimateNotFinite, ServiceError
from service.inference.lwlm_session import LwlmSession, Measured
from service.telemetry.stopwatch import Stopwatch

_Floats = NDArray[np.float64]
_Key = tuple[int, int]

_FALSE_SIGNALS = 1e-4  # of snapshots that hold noise alone, the share whose strongest beam looks like a path


class Snapshot(NamedTuple):
    """CSI float32 `[antennas, subcarriers, 2]` of a cell's base station, finite and not all zero.

    The cell's frame lies at `place` in the frame that the user's stations have in common.
    """

    cell: Cell
    csi: NDArray[np.float32]
    place: FramePlace = FramePlace(0.0, 0.0, 0.0)


class Measurement(NamedTuple):
    """What one base station says of a user. Sigmas are as the model predicts them, not yet calibrated.

    `aoa` is off broadside in radians, counter-clockwise, folded into the front half plane. `position` float64 `[2]` and
    `covariance` `[2, 2]` are in metres east and north in the frame that the user's stations have in common.
    """

    range: float
    range_sigma: float
    aoa: float
    aoa_sigma: float
    line_of_sight: float
    position: _Floats
    covariance: _Floats
    attention: float


class FusedPosition(NamedTuple):
    """Where several base stations together locate a user, in their common frame; `weights` are in their order."""

    position: _Floats
    covariance: _Floats
    weights: tuple[float, ...]


class MeasuredUser(NamedTuple):
    """The measurements of a user in the order of the snapshots. `fused` is None for one base station."""

    stations: tuple[Measurement, ...]
    fused: FusedPosition | None


class LwlmEstimator:
    def __init__(self, session: LwlmSession) -> None:
        self._session = session

    def locate(self, users: Sequence[tuple[Snapshot, ...]], stopwatch: Stopwatch) -> list[MeasuredUser | ServiceError]:
        """Measures each user by the snapshots of one base station or more.

        A user with a snapshot of noise alone gets `CsiHasNoSignal`, one for whom the model has no finite answer
        `EstimateNotFinite`. For the owner thread only. Raises `InferenceFailed` or `OutOfMemory`.
        """
        with stopwatch.stage("measure"):
            measured = self._measure({(i, j): one for i, user in enumerate(users) for j, one in enumerate(user)})
        stations = [tuple(measured[i, j] for j in range(len(user))) for i, user in enumerate(users)]
        failed: dict[int, ServiceError] = {}
        for i, user in enumerate(users):
            if error := _find_noise(user) or _find_unsound(user, stations[i]):
                failed[i] = error
        joined = {i: user for i, user in enumerate(stations) if len(user) > 1 and i not in failed}
        fused = {}
        if joined:
            with stopwatch.stage("fuse"):
                fused = self._fuse(joined)
        for i, one in fused.items():
            if not _is_spread(one.position, one.covariance):
                failed[i] = EstimateNotFinite("the model could not join the base stations' measurements")
        return [failed.get(i) or MeasuredUser(user, fused.get(i)) for i, user in enumerate(stations)]

    def _measure(self, snapshots: dict[_Key, Snapshot]) -> dict[_Key, Measurement]:
        """All snapshots of one shape are measured in one run."""
        shapes: dict[tuple[int, ...], list[_Key]] = defaultdict(list)
        for key, snapshot in snapshots.items():
            shapes[snapshot.csi.shape].append(key)
        found: dict[_Key, Measurement] = {}
        for keys in shapes.values():
            csi = np.stack([snapshots[key].csi for key in keys])
            cells = [snapshots[key].cell for key in keys]
            configuration = np.array([(cell.bandwidth, cell.height - USER_HEIGHT) for cell in cells], np.float32)
            outputs = self._session.measure(csi, configuration)
            found |= {key: _read_measurement(outputs, row, snapshots[key]) for row, key in enumerate(keys)}
        return found

    def _fuse(self, users: dict[int, tuple[Measurement, ...]]) -> dict[int, FusedPosition]:
        """All users with as many base stations are fused in one run."""
        sizes: dict[int, list[int]] = defaultdict(list)
        for i, stations in users.items():
            sizes[len(stations)].append(i)
        found = {}
        for rows in sizes.values():
            positions = np.array([[one.position for one in users[i]] for i in rows], np.float32)
            covariances = np.array([[one.covariance for one in users[i]] for i in rows], np.float32)
            attention = np.array([[one.attention for one in users[i]] for i in rows], np.float32)
            outputs = self._session.fuse(positions, covariances, attention)
            for row, i in enumerate(rows):
                position, covariance, weights = (part[row].astype(np.float64) for part in outputs)
                found[i] = FusedPosition(position, covariance, tuple(weights.tolist()))
        return found


def _read_measurement(outputs: Measured, row: int, snapshot: Snapshot) -> Measurement:
    """A row of the outputs, turned by the array's yaw and moved into the common frame."""
    (length, length_sigma), (aoa, aoa_sigma) = outputs.range[row].tolist(), outputs.aoa[row].tolist()
    place = snapshot.place
    yaw = snapshot.cell.yaw + place.turn
    cos, sin = math.cos(yaw), math.sin(yaw)
    turn = np.array([[cos, -sin], [sin, cos]])
    return Measurement(
        range=length,
        range_sigma=length_sigma,
        aoa=aoa,
        aoa_sigma=aoa_sigma,
        line_of_sight=min(max(float(outputs.line_of_sight[row]), 0.0), 1.0),
        position=turn @ outputs.position[row].astype(np.float64) + (place.east, place.north),
        covariance=turn @ outputs.covariance[row].astype(np.float64) @ turn.T,
        attention=float(outputs.attention[row]),
    )


def _find_noise(user: Sequence[Snapshot]) -> CsiHasNoSignal | None:
    """Names the first snapshot that holds nothing but noise."""
    for j, snapshot in enumerate(user):
        if not has_signal(snapshot.csi):
            param = "/csi/data" if len(user) == 1 else f"/measurements/{j}/csi/data"
            return CsiHasNoSignal(param, "holds noise alone: no direction and delay stands out")
    return None


def has_signal(csi: NDArray[np.float32]) -> bool:
    """Whether a path stands out in the angle-delay power spectrum of csi `[antennas, subcarriers, 2]`.

    In white noise the powers of the spectrum's n points are independent and exponential, so the strongest exceeds
    their mean by more than log(n / p) in a share p of snapshots, whatever their level.
    """
    antennas, subcarriers, _ = csi.shape
    power = np.abs(np.fft.fft2(csi.view(np.complex64)[..., 0] / np.abs(csi).max())) ** 2
    return bool(power.max() > power.mean() * math.log(antennas * subcarriers / _FALSE_SIGNALS))


def _find_unsound(user: Sequence[Snapshot], stations: Sequence[Measurement]) -> EstimateNotFinite | None:
    """Names the first base station of which the model says nothing usable."""
    for snapshot, one in zip(user, stations, strict=True):
        if not _is_sound(one):
            return EstimateNotFinite(f"the model returned no usable measurement of cell {snapshot.cell.cell_id}")
    return None


def _is_sound(one: Measurement) -> bool:
    numbers = (one.range, one.range_sigma, one.aoa, one.aoa_sigma, one.line_of_sight, one.attention)
    return (
        all(map(math.isfinite, numbers))
        and min(one.range_sigma, one.aoa_sigma) > 0
        and _is_spread(one.position, one.covariance)
    )


def _is_spread(position: _Floats, covariance: _Floats) -> bool:
    """Whether a position is finite and its covariance that of an ellipse."""
    return bool(
        np.isfinite(position).all() and np.isfinite(covariance).all() and np.linalg.eigvalsh(covariance).min() > 0
    )
