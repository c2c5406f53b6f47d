"""How far estimates are off, as ellipses: the model's covariance and the cell's own residuals, calibrated together.

The covariance of an estimate is the mean of two: the one that the model predicts for this CSI, and the spread of the
residuals that the cell's own fingerprints leave around there. Conformal scales of the Mahalanobis distance make it hold
at every confidence: they are measured on the same fingerprints, each located as a user without its own witness, for
every accuracy of a coarse position, at several SNRs, and apart for sure and unsure estimates where there are enough.
"""

import base64
import math
from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator

from models.artifact import Scales
from service.cells.residuals import left_out_covariances, local_covariances, mahalanobis

# Estimates are parted by their spread where each part has so many: 150 show 99 %, and 95 % to two points.
_FEWEST_OF_A_SPREAD, _MOST_SPREADS = 150, 3
_MEDIAN = 1.386  # of the squared Mahalanobis distance of a normal distribution in the plane
_AGREEMENTS = 50  # steps in which the distribution of distances between fix and estimate is kept

_Floats = NDArray[np.float64]


def _decode(value: Any) -> bytes:
    return value if isinstance(value, bytes) else base64.b64decode(value, validate=True)


def _encode(value: bytes) -> str:
    return base64.b64encode(value).decode()


# Pairs of metres `[n, 2]` as little-endian float32; base64 where a manifest holds them.
Pairs = Annotated[bytes, PlainValidator(_decode), PlainSerializer(_encode)]


def _pack(pairs: NDArray[np.floating]) -> bytes:
    return pairs.astype("<f4").tobytes()


def _unpack(packed: bytes) -> NDArray[np.float32]:
    return np.frombuffer(packed, "<f4").reshape(-1, 2)


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True)


class SpreadScales(_Stored):
    """The scales of estimates whose covariance has a determinant up to `most` (m⁴); None: of all others."""

    most: float | None
    scales: Scales


class SnrScales(_Stored):
    """The scales of users at one SNR, by spread in rising order; the last has no bound."""

    snr_db: float
    spreads: tuple[SpreadScales, ...] = Field(min_length=1)

    def of(self, determinant: float) -> Scales:
        for spread in self.spreads:
            if spread.most is None or determinant <= spread.most:
                return spread.scales
        return self.spreads[-1].scales


class EllipseLevel(_Stored):
    """Errors at one accuracy of the coarse position.

    `residuals`: of each calibrated fingerprint, estimate minus label. `model_share` and `cell_share` multiply the two
    covariances. `snrs` in falling order; the first is the survey's own. `agreements`: quantiles, in even steps, of the
    distance between coarse position and estimate in units of the coarse position's 1-sigma; empty without one.
    """

    residuals: Pairs
    model_share: float = Field(gt=0)
    cell_share: float = Field(gt=0)
    snrs: tuple[SnrScales, ...] = Field(min_length=1)
    agreements: tuple[float, ...] = ()

    def scales(self, determinant: float, snr_db: float) -> Scales:
        """The scales at the nearest SNR that was measured."""
        return min(self.snrs, key=lambda one: abs(one.snr_db - snr_db)).of(determinant)

    def agreement(self, distance: float) -> float:
        """The share of honest users whose coarse position is at least so far off, in 1-sigmas: in (0, 1]."""
        known = self.agreements
        if not known:
            return 1.0
        upper = bisect_right(known, distance)  # numpy.interp takes twenty times as long for one number
        if upper in (0, len(known)):
            below = float(upper > 0)
        else:
            low, high = known[upper - 1], known[upper]
            below = (upper - 1 + (distance - low) / (high - low)) / (len(known) - 1)
        return max(1 - below, 1 / (len(known) + 1))


class CalibratedUsers(NamedTuple):
    """Fingerprints located as users at one accuracy of the coarse position and one SNR.

    `rows` `[m]` of the places; `residuals` `[m, 2]` metres; the model's `covariances` `[m, 2, 2]`.
    """

    snr_db: float
    rows: NDArray[np.int64]
    residuals: _Floats
    covariances: _Floats


class Ellipses(_Stored):
    """The ellipses of a cell. `places` `[n, 2]`, metres, of the calibrated fingerprints; `levels` as in `Calibration`.

    `along`: which of them lie along a line, so that their residuals say nothing about its other direction.
    """

    places: Pairs
    along: tuple[int, ...]  # their rows
    levels: tuple[EllipseLevel, ...]

    def prepare(self) -> None:
        """Computes now what the first answer would wait for: some tens of milliseconds."""
        assert len(self._fields) == len(self.levels)
        assert len(self._places_and_half_squares) == 2

    def covariance(self, level: int, position: NDArray[np.floating], predicted: NDArray[np.floating]) -> _Floats:
        """Of the error of an estimate at `position` `[2]`, for which the model predicts a covariance `[2, 2]`."""
        one = self.levels[level]
        places, half_squares = self._places_and_half_squares
        nearest = int((half_squares - places @ position).argmin())
        mixed: _Floats = one.model_share * predicted.astype(np.float64) + one.cell_share * self._fields[level][nearest]
        return mixed

    @cached_property
    def _fields(self) -> list[_Floats]:
        """The spread of the residuals around each place, `[n, 2, 2]`, of each level."""
        places = _unpack(self.places)
        along = np.zeros(len(places), np.bool_)
        along[list(self.along)] = True
        return [local_covariances(_unpack(one.residuals), places, places, along) for one in self.levels]

    @cached_property
    def _places_and_half_squares(self) -> tuple[_Floats, _Floats]:
        """Half the squared distance of each place from the origin, less its product with a position, ranks the places
        as their distances from the position do: one product instead of an array of differences.
        """
        places = _unpack(self.places).astype(np.float64)
        return places, np.square(places).sum(axis=1) / 2


def measure_level(
    places: NDArray[np.float32],
    along: NDArray[np.bool_],
    users: Sequence[CalibratedUsers],
    distances: NDArray[np.floating] | None,
) -> EllipseLevel:
    """Calibrates one level. The first of `users` are all places, at the survey's own SNR.

    `distances` `[n]`: between coarse positions and estimates, in 1-sigmas; None without coarse positions.
    """
    own = users[0]
    around = left_out_covariances(own.residuals, places, along)
    # Each half is scaled so that half of the residuals are inside the median of a normal distribution.
    model_share, cell_share = (
        max(float(np.median(np.square(mahalanobis(own.residuals, one)))), 1e-6) / _MEDIAN / 2
        for one in (own.covariances, around)
    )
    snrs = []
    for some in users:
        mixed = model_share * some.covariances + cell_share * around[some.rows]
        snrs.append(SnrScales(snr_db=some.snr_db, spreads=_scale(mixed, mahalanobis(some.residuals, mixed))))
    steps = np.linspace(0, 1, _AGREEMENTS + 1)
    return EllipseLevel(
        residuals=_pack(own.residuals),
        model_share=model_share,
        cell_share=cell_share,
        snrs=tuple(snrs),
        agreements=() if distances is None else tuple(_shorten(one) for one in np.quantile(distances, steps)),
    )


def _scale(covariances: _Floats, distances: _Floats) -> tuple[SpreadScales, ...]:
    """The scales of Mahalanobis distances `[m]`, apart for small and large covariances `[m, 2, 2]`."""
    determinants = np.linalg.det(covariances)
    parts = int(np.clip(len(distances) // _FEWEST_OF_A_SPREAD, 1, _MOST_SPREADS))
    bounds = [float(one) for one in np.quantile(determinants, np.arange(1, parts) / parts)]
    part_of = np.searchsorted(bounds, determinants)
    found = []
    for part, most in enumerate([*bounds, None]):
        scales = Scales.of_distances(np.maximum(distances[part_of == part], 1e-6))
        assert scales is not None  # there is a distance in every part
        rounded = Scales(factors={one: _shorten(factor) for one, factor in scales.factors.items()})
        found.append(SpreadScales(most=most, scales=rounded))
    return tuple(found)


def make_ellipses(places: NDArray[np.float32], along: NDArray[np.bool_], levels: Sequence[EllipseLevel]) -> Ellipses:
    return Ellipses(places=_pack(places), along=tuple(np.flatnonzero(along).tolist()), levels=tuple(levels))


def _shorten(value: float) -> float:
    """Five digits are plenty, and a version's manifest holds hundreds of these."""
    return float(f"{value:.5g}") if math.isfinite(value) else value
