"""Does a cell's traffic still fit its calibration? Cars, facades and arrays move after a survey.

Every located user brings `belonging`, and with a fix `fix_agreement`: p-values under the calibration, uniform as long
as nothing has changed. `Bets` tests both, one request after the other.

Traffic is not independent: a parked user may send a thousand snapshots. So a user counts only if none of the last 32
users who counted, within the last day, was located less than 3 m away. One place is then at most one in 33 counted
users, less than the test tolerates. What different places say of each other is bounded by the null hypothesis of `Bets`
alone.
"""

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from statistics import median
from threading import Lock
from typing import NamedTuple

from fingerpost.wire_cells import DriftSign
from service.cells.bets import Bets
from service.cells.calibration import Calibration
from service.cells.served_cell import ServedCell
from service.errors import CsiForeign, ServiceError
from service.inference.user import Estimate
from service.telemetry.drift_metrics import DriftMetrics

FALSE_ALARM_REQUESTS = 100_000  # counted requests of unchanged traffic to one false alarm, at least

_APART_M = 3.0
_PLACES = 32
_AGAIN_S = 86_400.0
_TURNS, _FEWEST_TURNS, _CLEAR_SIGMAS = 500, 20, 5.0
_LEAST_TURN = math.radians(1.5)  # a changed street biases estimates, too
_LEAST_ACCURACY_M = 0.01  # of a fix that is compared with an estimate
_MOST_CELLS = 10_000  # of a few kilobytes each


class JudgedUser(NamedTuple):
    """Where a user was located, metres east and north of the base station, and the p-values.

    `turn`: radians counter-clockwise from the bearing of the estimate to that of the fix; None without both.
    """

    place: tuple[float, float]
    belonging: float
    fix_agreement: float | None = None
    turn: float | None = None


class _Counted(NamedTuple):
    """Where and when, in metres and Unix seconds."""

    x: float
    y: float
    at: float


class Drift(NamedTuple):
    """What the traffic of one version says. Moments in Unix seconds.

    `signs`: what no longer fits: the signal, or fixes and estimates. `since`: about when that began. `evidence`:
    unchanged traffic brings so much at most once in as many counted requests. `turn`: radians counter-clockwise from
    the bearings of estimates to those of fixes since then; None where they agree, or hardly differ.
    """

    signs: tuple[DriftSign, ...]
    since: float | None
    noticed: float | None
    evidence: float
    counted: int
    turn: float | None


class _Turn(NamedTuple):
    """When, and by how many radians the bearing of a fix differs from that of its estimate."""

    at: float
    angle: float


class VersionDrift:
    """The traffic of one version of a cell with one artifact.

    `judged` and `located`: how many fingerprints the p-values of signals and of fixes were calibrated on.
    """

    def __init__(self, judged: int, located: int) -> None:
        self._bets: dict[DriftSign, Bets] = {"signal": Bets(judged), "fixes": Bets(located)}
        self._noticed: dict[DriftSign, float] = {}
        self._last: deque[_Counted] = deque(maxlen=_PLACES)  # oldest first
        self._turns: deque[_Turn] = deque(maxlen=_TURNS)
        self._counted = 0

    def note(self, user: JudgedUser, now: float) -> bool:
        """Counts a user; returns whether the user counts. `now` in Unix seconds."""
        x, y = user.place
        while self._last and now - self._last[0].at > _AGAIN_S:
            self._last.popleft()
        if any(math.hypot(x - one.x, y - one.y) < _APART_M for one in self._last):
            return False
        self._last.append(_Counted(x, y, now))
        self._counted += 1
        self._test("signal", user.belonging, now)
        if user.fix_agreement is not None:
            self._test("fixes", user.fix_agreement, now)
        if user.turn is not None:
            self._turns.append(_Turn(now, user.turn))
        return True

    def describe(self) -> Drift:
        signs: tuple[DriftSign, ...] = tuple(self._noticed)
        since = min((self._bets[sign].since for sign in signs), default=None)
        return Drift(
            signs=signs,
            since=since,
            noticed=min(self._noticed.values(), default=None),
            evidence=max(1.0, max(bets.evidence for bets in self._bets.values()) / len(self._bets)),
            counted=self._counted,
            turn=None if since is None else _find_turn([turn.angle for turn in self._turns if turn.at >= since]),
        )

    @property
    def signs(self) -> tuple[DriftSign, ...]:
        return tuple(self._noticed)

    def _test(self, sign: DriftSign, p_value: float, now: float) -> None:
        bets = self._bets[sign]
        bets.note(p_value, now)
        if bets.evidence >= FALSE_ALARM_REQUESTS * len(self._bets):
            self._noticed.setdefault(sign, now)
        elif bets.evidence == 1:
            self._noticed.pop(sign, None)  # as much has spoken against the change since as for it before


class _Watched(NamedTuple):
    key: tuple[str, str]  # digests of manifest and artifact
    calibration: object
    traffic: VersionDrift


class DriftWatch:
    """The traffic of each cell on this replica, in memory. A new version, and a new artifact, begin anew.

    Any thread may call.
    """

    def __init__(self, metrics: DriftMetrics, clock: Callable[[], float] = time.time) -> None:
        self._metrics = metrics
        self._clock = clock
        self._watched: OrderedDict[str, _Watched] = OrderedDict()  # the one served longest ago first
        self._lock = Lock()

    def follow(self, cell_id: str, served: ServedCell) -> None:
        """Call when a cell is put into service. The same version goes on, with the same artifact."""
        key = (served.version.manifest.digest, served.engine.artifact.digest)
        with self._lock:
            before = self._watched.pop(cell_id, None)
            same = before is not None and before.key == key
            traffic = before.traffic if before is not None and same else start_counting(served.calibration)
            self._watched[cell_id] = _Watched(key, served.calibration, traffic)
            if len(self._watched) > _MOST_CELLS:
                self._watched.popitem(last=False)
            if not same:
                self._show()

    def forget(self, cell_id: str) -> None:
        """Call when a cell is gone."""
        with self._lock:
            if self._watched.pop(cell_id, None) is not None:
                self._show()

    def note(self, served: ServedCell, found: Estimate | ServiceError, fix: tuple[float, float, float] | None) -> None:
        """Counts a user whom `served` located, or refused as foreign. A version that was replaced no longer counts.

        `fix`: metres east and north of the base station, and the 1-sigma error on each axis.
        """
        judged = judge_user(served.calibration, found, fix)
        if judged is None:
            return
        with self._lock:
            watched = self._watched.get(served.version.cell.cell_id)
            if watched is None or watched.calibration is not served.calibration:
                return
            before = watched.traffic.signs
            counted = watched.traffic.note(judged, self._clock())
            self._metrics.note(counted)
            if watched.traffic.signs != before:
                self._show()

    def describe(self, cell_id: str, digest: str) -> Drift | None:
        """What the traffic of the version with this digest says; None where this replica does not serve it."""
        with self._lock:
            watched = self._watched.get(cell_id)
            return None if watched is None or watched.key[0] != digest else watched.traffic.describe()

    def _show(self) -> None:
        self._metrics.show({name: one.traffic.signs for name, one in self._watched.items() if one.traffic.signs})


def start_counting(calibration: Calibration) -> VersionDrift:
    """Of a version that has this calibration."""
    return VersionDrift(calibration.belonging.levels[0].samples, calibration.samples)


def judge_user(
    calibration: Calibration, found: Estimate | ServiceError, fix: tuple[float, float, float] | None
) -> JudgedUser | None:
    """The p-values of a user; None for a user who is neither located nor foreign. `fix` as in `DriftWatch.note`."""
    if isinstance(found, CsiForeign):
        return JudgedUser(found.place, found.belonging) if math.isfinite(sum(found.place)) else None
    if isinstance(found, ServiceError):
        return None
    x, y = found.position.tolist()
    if not math.isfinite(x + y):
        return None
    if fix is None:
        return JudgedUser((x, y), found.belonging)
    east, north, accuracy = fix
    level = calibration.ellipses.levels[calibration.find_level(accuracy)]
    agreement = level.agreement(math.hypot(east - x, north - y) / max(accuracy, _LEAST_ACCURACY_M))
    turn = math.remainder(math.atan2(north, east) - math.atan2(y, x), math.tau)
    return JudgedUser((x, y), found.belonging, agreement, turn)


def _find_turn(turns: list[float]) -> float | None:
    """The median of angles, if it is clearly not 0: outliers do not move it. A guess: out of sight of the base station
    estimates do not turn with the array."""
    if len(turns) < _FEWEST_TURNS:
        return None
    middle = median(turns)
    sigma = 1.4826 * median(abs(turn - middle) for turn in turns)
    error = 1.2533 * sigma / math.sqrt(len(turns))  # of the median of a normal distribution
    return middle if abs(middle) > max(_CLEAR_SIGMAS * error, _LEAST_TURN) else None
