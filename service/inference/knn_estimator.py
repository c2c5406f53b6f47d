"""Locates users by a weighted kNN over the signals of a cell's fingerprints. No model, so it takes any radio."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference_db.cell_version import CellVersion
from reference_db.half_csi import as_complex
from reference_db.index.signal_features import describe_signals
from reference_db.retrieval import guess_by_voters
from service.errors import CsiForeign, CsiLevelImplausible, ServiceError
from service.inference.belonging import Strangeness, describe_foreign, is_foreign
from service.inference.plausibility import Levels, find_implausible_levels, level_of, weigh_fixes
from service.inference.user import User
from service.telemetry.stopwatch import Stopwatch


class KnnEstimate(NamedTuple):
    """A user's local position, float32 `[2]` metres, and whether a coarse position that the signal does not contradict
    is part of it.
    """

    position: NDArray[np.float32]
    coarse_used: bool


class KnnEstimator:
    """The estimate is the first guess that Mateformer starts from: the mode of signal and coarse position together."""

    def __init__(self) -> None:
        self._levels = Levels()

    def locate(self, users: Sequence[User], stopwatch: Stopwatch) -> list[KnnEstimate | ServiceError]:
        """Returns the estimate of each user, of any cells, or why its CSI cannot be compared: `CsiLevelImplausible`
        or `CsiForeign`. For the owner thread only.
        """
        cells: dict[CellVersion, list[int]] = defaultdict(list)
        for row, user in enumerate(users):
            cells[user.version].append(row)
        found: dict[int, KnnEstimate | ServiceError] = {}
        with stopwatch.stage("retrieve"):
            for version, rows in cells.items():
                located = self._locate_in(version, [users[row] for row in rows])
                found |= zip(rows, located, strict=True)
        return [found[row] for row in range(len(users))]

    def _locate_in(self, version: CellVersion, users: Sequence[User]) -> list[KnnEstimate | ServiceError]:
        """Users of one version have the same limits."""
        csi, limits, null = np.stack([user.csi for user in users]), users[0].limits, users[0].belonging
        signals = describe_signals(as_complex(csi))
        coarse = np.stack([user.coarse for user in users])
        accuracy = np.array([user.accuracy for user in users], np.float32)
        guess = weigh_fixes(version.references, signals.features, coarse, accuracy, limits)
        places = guess_by_voters(version.references, *guess)
        refused: dict[int, CsiLevelImplausible | CsiForeign] = {}
        if limits is not None:
            refused |= find_implausible_levels(self._levels, version, level_of(csi), guess.voters, limits)
        if null is not None:
            p = null.p_values(Strangeness.of(version.references, guess.voters, signals.snr_db))
            for i in np.flatnonzero(is_foreign(p)).tolist():
                refused[i] = describe_foreign(p[i], signals.snr_db[i], places[i])
        return [
            refused.get(i) or KnnEstimate(place, math.isfinite(error))
            for i, (place, error) in enumerate(zip(places, guess.accuracy.tolist(), strict=True))
        ]
