"""Is a request plausible? The level of its CSI, and its coarse position, against the cell's own fingerprints.

Both checks start from the fingerprints with the most similar signal, a comparison that gain does not affect. How far
honest users differ from them is measured on the cell itself: each fingerprint of a sample is treated as a user among
the others (leave-one-out).
"""

from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from reference_db.cell_version import CellVersion
from reference_db.half_csi import as_complex
from reference_db.index.signal_features import signal_feature
from reference_db.references import References
from reference_db.retrieval import LeftOut, Voters, find_voters, gate_radii
from service.errors import CsiLevelImplausible

_Floats = NDArray[np.float32]
_Rows = NDArray[np.int64]

_COMPARED = 8  # fingerprints whose level a user's may be near
# Noise and gain errors that the fingerprints do not have: up to 6 dB at 20 dB SNR, 10 dB with gain errors of 3 dB.
_LEAST_LEVEL_DB, _LEVEL_MARGIN_DB = 10.0, 6.0
_LEAST_CONTRADICTION, _CONTRADICTION_MARGIN = 1.3, 1.1
_RARE = 0.995  # quantile of honest users that a limit starts from: one odd fingerprint must not set it
_PLAIN = 0.95  # quantile of honest users whose coarse position needs no second look
_ACCURACY = 1.0  # metres: of the coarse positions that the limits are measured with
# How far from a coarse position its user may be, and in units of the k-NN bandwidth a fingerprint from its user.
_EXPLAINED_SIGMAS, _SPACING = 3.0, 0.35
# A survey of a street's middle has no fingerprint beside users on the pavement. For a coarse position so many k-NN
# bandwidths away from all fingerprints, those little farther than the nearest one count as beside its user.
_APART, _BESIDE = 0.6, 1.3
_SAMPLED_AT_ONCE = 64


class PlausibilityLimits(BaseModel):
    """What honest users of a cell keep to.

    `level_db`: difference from the nearest level among the most similar fingerprints. `distance`: signal distance to
    the most similar fingerprint near an honest coarse position; most users are below it. `contradiction`: that
    distance over the distance to the most similar fingerprint anywhere.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    level_db: float
    distance: float  # 0 where the next is None
    contradiction: float | None  # None: the fingerprints are too sparse to tell


class Guess(NamedTuple):
    """First guesses of users in one cell.

    `voters`: the fingerprints that they follow from. `coarse` float32 `[b, 2]` and `accuracy` float32 `[b]` as in
    `User`, NaN where the signal contradicts the coarse position.
    """

    voters: Voters
    coarse: _Floats
    accuracy: _Floats


def weigh_fixes(
    references: References, features: _Floats, coarse: _Floats, accuracy: _Floats, limits: PlausibilityLimits | None
) -> Guess:
    """Finds the voters of each user, without the coarse positions that the signal contradicts.

    Takes features `[b, D]` from `signal_feature`, and coarse positions as in `User`.
    """
    voters = find_voters(references, features, coarse, accuracy)
    if limits is None or limits.contradiction is None:
        return Guess(voters, coarse, accuracy)
    doubted = _find_doubtful(references, voters, coarse, accuracy, limits)
    if not len(doubted):
        return Guess(voters, coarse, accuracy)
    some = Voters(voters.rows[doubted], voters.distances[doubted])
    near = _nearest_explained(references, some, coarse[doubted], accuracy[doubted])
    anywhere = _find_anywhere(references, features[doubted])
    wrong = near > limits.contradiction * anywhere.distances[:, 0]
    rows = doubted[wrong]
    voters.rows[rows], voters.distances[rows] = anywhere.rows[wrong], anywhere.distances[wrong]
    coarse, accuracy = coarse.copy(), accuracy.copy()
    coarse[rows], accuracy[rows] = np.nan, np.nan
    return Guess(voters, coarse, accuracy)


class Levels:
    """The levels of fingerprints, remembered for as long as their version lives. For one thread only."""

    def __init__(self) -> None:
        self._remembered: WeakKeyDictionary[CellVersion, _Floats] = WeakKeyDictionary()

    def of(self, version: CellVersion, rows: _Rows) -> _Floats:
        """Levels in dB, float32 of the shape of `rows`."""
        known = self._remembered.get(version)
        if known is None:
            known = self._remembered[version] = np.full(len(version), np.nan, np.float32)
        levels = known[rows]
        if np.isnan(levels).any():
            missing = np.unique(rows[np.isnan(levels)])
            known[missing] = level_of(version.csi_of(missing))
            levels = known[rows]
        return levels


def level_of(csi: _Floats) -> _Floats:
    """The mean power of CSI `[n, antennas, subcarriers, 2]` in dB, float32 `[n]`."""
    flat = csi.reshape(len(csi), 1, -1)
    power = (flat @ flat.mT)[:, 0, 0] * (2 / flat.shape[-1])
    level: _Floats = 10 * np.log10(power)
    return level


def find_implausible_levels(
    levels: Levels, version: CellVersion, own: _Floats, voters: Voters, limits: PlausibilityLimits
) -> dict[int, CsiLevelImplausible]:
    """The users of a cell whose level is implausible, by row. `own` `[b]`: the users' levels in dB."""
    first = levels.of(version, voters.rows[:, 0])
    (doubted,) = np.nonzero(np.abs(own - first) > limits.level_db)
    if not len(doubted):
        return {}
    apart = own[doubted, np.newaxis] - levels.of(version, voters.rows[doubted, :_COMPARED])
    return {
        row: _implausible(float(np.median(differences)), limits.level_db)
        for row, differences in zip(doubted.tolist(), apart, strict=True)
        if np.abs(differences).min() > limits.level_db
    }


def measure_limits(version: CellVersion, rows: _Rows, left_out: LeftOut) -> PlausibilityLimits:
    """Measures the limits of a cell on the fingerprints `rows` `[n]`, each without its own witness. Blocking."""
    references = version.references
    features = np.concatenate([signal_feature(as_complex(version.csi_of(some))) for some in _parts(rows)])
    coarse, accuracy = version.positions[rows], np.full(len(rows), _ACCURACY, np.float32)
    voters = find_voters(references, features, coarse, accuracy, left_out)
    near = _nearest_explained(references, voters, coarse, accuracy)
    anywhere = _find_anywhere(references, features, left_out)
    own = np.concatenate([level_of(version.csi_of(some)) for some in _parts(rows)])
    compared = np.stack([level_of(version.csi_of(some)) for some in anywhere.rows[:, :_COMPARED]])
    apart = np.abs(own[:, np.newaxis] - compared).min(axis=1)
    contradiction = float(np.quantile(near / np.maximum(anywhere.distances[:, 0], 1e-6), _RARE, method="higher"))
    sparse = not np.isfinite(contradiction)  # infinity is not JSON, so a version could not keep it
    return PlausibilityLimits(
        level_db=max(_LEAST_LEVEL_DB, float(np.quantile(apart, _RARE, method="higher")) + _LEVEL_MARGIN_DB),
        distance=0.0 if sparse else float(np.quantile(near, _PLAIN, method="higher")),
        contradiction=None if sparse else max(_LEAST_CONTRADICTION, _CONTRADICTION_MARGIN * contradiction),
    )


def _find_doubtful(
    references: References, voters: Voters, coarse: _Floats, accuracy: _Floats, limits: PlausibilityLimits
) -> _Rows:
    """The users whose most similar fingerprint is not both similar and close to their coarse position: `[d]`."""
    offset = references.positions[voters.rows[:, 0]] - coarse
    good = (np.hypot(offset[:, 0], offset[:, 1]) <= _explained(references, accuracy)) & (
        voters.distances[:, 0] <= limits.distance
    )
    return np.flatnonzero(~(good | np.isnan(accuracy)))


def _find_anywhere(references: References, features: _Floats, left_out: LeftOut | None = None) -> Voters:
    nowhere = np.full((len(features), 2), np.nan, np.float32)
    return find_voters(references, features, nowhere, nowhere[:, 0], left_out)


def _nearest_explained(references: References, voters: Voters, coarse: _Floats, accuracy: _Floats) -> _Floats:
    """The signal distance to the most similar fingerprint that the coarse position's error can explain: `[b]`.

    A lower bound of it where no voter is near enough but others may be; infinite where the error explains none.
    """
    away = np.square(references.positions[voters.rows] - coarse[:, np.newaxis]).sum(axis=2)
    explained = np.square(_explained(references, accuracy, _beside(references, coarse)))[:, np.newaxis]
    near = np.where(away <= explained, voters.distances, np.float32(np.inf)).min(axis=1)
    # If a gate holds more fingerprints than there are voters, those near the position may be less similar than all.
    crowded = away.max(axis=1) <= np.square(gate_radii(references, accuracy))
    nearest: _Floats = np.where(crowded, np.minimum(near, voters.distances[:, -1]), near)
    return nearest


def _explained(references: References, accuracy: _Floats, beside: _Floats | float = 0.0) -> _Floats:
    """How far in metres, `[b]`, a fingerprint beside its user lies from a coarse position of this error at most.

    `beside`: how far fingerprints beside a user may lie, where that is more than usual.
    """
    usual = _SPACING * references.knn_bandwidth
    explained: _Floats = _EXPLAINED_SIGMAS * accuracy + np.maximum(beside, usual).astype(np.float32)
    return explained


def _beside(references: References, coarse: _Floats) -> _Floats:
    """How far in metres, `[b]`, fingerprints beside users at coarse positions may lie where no fingerprints are near.

    0 near fingerprints, and at most the k-NN bandwidth: a coarse position far from all of them is no place of the cell.
    """
    away, bandwidth = references.index.nearest(coarse, 1)[1][:, 0], references.knn_bandwidth
    beside: _Floats = np.where(away > _APART * bandwidth, np.minimum(_BESIDE * away, bandwidth), 0).astype(np.float32)
    return beside


def _implausible(apart_db: float, limit_db: float) -> CsiLevelImplausible:
    side = "above" if apart_db > 0 else "below"
    return CsiLevelImplausible(
        "/csi/data",
        f"its level is {abs(apart_db):.1f} dB {side} that of the cell's fingerprints with the most similar signal; "
        f"at most {limit_db:.1f} dB are plausible. Is it in the unit of the fingerprints?",
    )


def _parts(rows: _Rows) -> list[_Rows]:
    return np.array_split(rows, range(_SAMPLED_AT_ONCE, len(rows), _SAMPLED_AT_ONCE))
