"""Does a user's CSI belong to the cell? How far it is from the fingerprints, for its SNR.

The CSI of another cell's users, or CSI in another order, is farther from the fingerprints most similar to it than the
CSI of the cell's own users is. So is noise: the same distance is usual at 10 dB and impossible at 30 dB. How far honest
users of a cell are from its fingerprints is measured on the cell itself, at several SNRs: each fingerprint of a sample,
with noise added to it, is compared with the others (leave-one-out). Nothing is learnt from foreign CSI.
"""

import math
from bisect import bisect_left
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from reference_db.cell_version import CellVersion
from reference_db.half_csi import as_complex
from reference_db.index.signal_features import describe_signals
from reference_db.references import References
from reference_db.retrieval import LeftOut, Voters, find_voters
from service.errors import CsiForeign

_Floats = NDArray[np.float32]
_Doubles = NDArray[np.float64]

SNRS_DB = (30.0, 20.0, 15.0, 10.0, 5.0, 0.0)  # that noise is added at, below the survey's own SNR
_APART_DB = 3.0  # an SNR less than this below the survey's own adds nothing; one this far below all is not judged
_COMPARED = 3  # most similar fingerprints whose distance counts
_AMONG = 16  # most similar fingerprints that say how far fingerprints are apart around here
# Of the distances of fingerprints from each other: 0 takes no account of sparse places, 1 takes full account. Chosen on
# cells of munich and etoile.
_SPARSE = 0.75
_LEAST = 1e-6  # squared distance
_BODY, _TAIL = 50, 30  # scores of the null distribution that are kept: in even steps, and all of the largest
_PARTS = 64  # snapshots at once

# Of honest users, the shares whose CSI is refused and whose answer says more than usual how far it may be off.
FOREIGN, DOUBTFUL = 0.005, 0.02


class Strangeness(NamedTuple):
    """How unlike the fingerprints users are, float32 `[b]` each.

    `distance`: mean squared distance to the most similar fingerprints. `spacing`: that of these fingerprints to each
    other. `snr_db` of the snapshots.
    """

    distance: _Floats
    spacing: _Floats
    snr_db: _Floats

    @classmethod
    def of(cls, references: References, voters: Voters, snr_db: _Floats) -> Self:
        distance = np.square(voters.distances[:, :_COMPARED]).mean(axis=1)
        return cls(distance, references.signals.spacing(voters.rows[:, :_AMONG]), snr_db)


class NullLevel(BaseModel):
    """How strange honest users are at one SNR.

    `noise`: what noise adds to squared distances. `scores`: those of some `ranks` (1 to `samples`), rising.
    """

    model_config = ConfigDict(frozen=True)

    snr_db: float
    noise: float = Field(ge=0)
    samples: int = Field(gt=0)
    ranks: tuple[int, ...] = Field(min_length=1)
    scores: tuple[float, ...] = Field(min_length=1)

    @classmethod
    def of(cls, strangeness: Strangeness, snr_db: float, noise: float) -> Self:
        pairs = zip(strangeness.distance.tolist(), strangeness.spacing.tolist(), strict=True)
        scores = np.sort([_score(*pair, noise) for pair in pairs])
        n = len(scores)
        body, tail = np.linspace(1, n, min(_BODY, n)).astype(int), np.arange(max(1, n - _TAIL), n + 1)
        ranks = np.unique(np.concatenate([body, tail]))
        kept = tuple(float(f"{score:.5g}") for score in scores[ranks - 1])
        return cls(snr_db=snr_db, noise=noise, samples=n, ranks=tuple(ranks.tolist()), scores=kept)

    def p_value(self, distance: float, spacing: float) -> float:
        """The share of honest users who are at least as strange: a conformal p-value in (0, 1]."""
        return (self.samples - self._count_below(_score(distance, spacing, self.noise)) + 1) / (self.samples + 1)

    def _count_below(self, score: float) -> float:
        """How many of the samples have a lower score; between two that are kept, in proportion."""
        upper = bisect_left(self.scores, score)
        if upper == 0:
            return 0.0
        if upper == len(self.scores):
            return float(self.samples)
        low, high = self.scores[upper - 1], self.scores[upper]
        share = (score - low) / (high - low)
        return self.ranks[upper - 1] + share * (self.ranks[upper] - self.ranks[upper - 1])


class Belonging(BaseModel):
    """The null distribution of a cell's own users, by SNR in falling order; the first is the survey's own."""

    model_config = ConfigDict(frozen=True)

    levels: tuple[NullLevel, ...] = Field(min_length=1)

    def p_values(self, strangeness: Strangeness) -> _Doubles:
        """How likely CSI of this strangeness, or stranger, is for one of the cell's own users at its SNR: `[b]`.

        The values of honest users are uniform in (0, 1]. Between two SNRs the logarithm is interpolated. CSI of an SNR
        more than 3 dB below all that were measured is foreign.
        """
        # One by one, without arrays: most dispatches hold few users.
        return np.array([self._p_value(*one) for one in zip(*(part.tolist() for part in strangeness), strict=True)])

    def _p_value(self, distance: float, spacing: float, snr_db: float) -> float:
        lower = next((i for i, level in enumerate(self.levels) if level.snr_db <= snr_db), len(self.levels))
        if lower == 0:
            return self.levels[0].p_value(distance, spacing)
        above = self.levels[lower - 1]
        if lower == len(self.levels):
            if snr_db < above.snr_db - _APART_DB:
                return FOREIGN / 2  # little but noise: no fingerprint was looked at with so much
            return above.p_value(distance, spacing)
        below = self.levels[lower]
        share = (above.snr_db - snr_db) / (above.snr_db - below.snr_db)
        logs = (math.log(level.p_value(distance, spacing)) for level in (above, below))
        return math.exp(sum(weight * log for weight, log in zip((1 - share, share), logs, strict=True)))


def is_foreign(belonging: _Doubles) -> NDArray[np.bool_]:
    """Whether the p-values `[b]` say that the CSI does not belong to the cell, `[b]`."""
    foreign: NDArray[np.bool_] = belonging < FOREIGN
    return foreign


def describe_foreign(belonging: float, snr_db: float, place: _Floats) -> CsiForeign:
    """Why a user with this p-value is not located; `place` `[2]` is the first guess."""
    error = CsiForeign(
        "/csi/data",
        f"fewer than {FOREIGN:.1%} of the cell's users have CSI so unlike its fingerprints, at an SNR of {snr_db:.0f} "
        "dB. Check that it was measured in this cell, has its antennas and subcarriers in the order of the "
        "fingerprints, and is more than noise",
    )
    east, north = place.tolist()
    error.belonging, error.place = float(belonging), (east, north)
    return error


class NoisyCsi(NamedTuple):
    """Adds white noise to snapshots, so that their SNRs are these, besides as they are."""

    snrs_db: tuple[float, ...]
    rng: np.random.Generator

    def variants(self, csi: _Floats) -> _Floats:
        """Snapshots `[n, antennas, subcarriers, 2]` as they are, then at each SNR: `[n, 1 + s, ...]`."""
        return np.stack([csi, *(add_noise(csi, snr_db, self.rng) for snr_db in self.snrs_db)], axis=1)


def add_noise(csi: _Floats, snr_db: float, rng: np.random.Generator) -> _Floats:
    """Snapshots `[n, antennas, subcarriers, 2]` with white noise so far below the power of each."""
    power = np.square(csi).mean(axis=(1, 2, 3), keepdims=True)  # of a real or an imaginary part
    sigma = np.sqrt(power) * np.float32(10 ** (-snr_db / 20))
    noisy: _Floats = csi + sigma * rng.standard_normal(csi.shape, np.float32)
    return noisy


def measure_belonging(version: CellVersion, left_out: LeftOut, rows: NDArray[np.int64]) -> Belonging:
    """Measures the null distribution on the fingerprints `rows` `[n]`, each without its own witness. Blocking.

    One level for the survey's own SNR, and one for each lower SNR of `SNRS_DB`.
    """
    rng = np.random.default_rng(0)
    own = _measure_strangeness(version, left_out, rows, None)
    natural, own_db = float(np.median(own.distance)), float(np.median(own.snr_db))
    levels = [NullLevel.of(own, own_db, 0.0)]
    for snr_db in SNRS_DB:
        if snr_db < own_db - _APART_DB:
            strangeness = _measure_strangeness(version, left_out, rows, (snr_db, rng))
            added = max(float(np.median(strangeness.distance)) - natural, 0.0)
            levels.append(NullLevel.of(strangeness, float(np.median(strangeness.snr_db)), added))
    return Belonging(levels=tuple(levels))


def _measure_strangeness(
    version: CellVersion,
    left_out: LeftOut,
    rows: NDArray[np.int64],
    noise: tuple[float, np.random.Generator] | None,
) -> Strangeness:
    """Of the fingerprints `rows` as users without a coarse position, with noise at some SNR, if any."""
    parts = []
    for some in np.array_split(np.arange(len(rows)), range(_PARTS, len(rows), _PARTS)):
        csi = version.csi_of(rows[some])
        signals = describe_signals(as_complex(csi if noise is None else add_noise(csi, *noise)))
        nowhere = np.full((len(some), 2), np.nan, np.float32)
        voters = find_voters(version.references, signals.features, nowhere, nowhere[:, 0], left_out.taken(some))
        parts.append(Strangeness.of(version.references, voters, signals.snr_db))
    return Strangeness(*map(np.concatenate, zip(*parts, strict=True)))


def _score(distance: float, spacing: float, noise: float) -> float:
    """The logarithm of the distance, less what is usual where fingerprints are far apart."""
    return math.log(max(distance, _LEAST)) - _SPARSE * math.log(max(spacing + noise, _LEAST))
