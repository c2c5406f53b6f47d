"""CSI that does not belong to a cell: how well the p-value tells it from the CSI of the cell's own users, and how the
service answers it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from benchmarks.trust_cells import Bench, Street, draw_fixes
from service.cells.served_cell import ServedCell
from service.errors import CsiForeign
from service.locating.coarse_position import why_ignored
from service.locating.users import LocatedUser

FOREIGN_USERS = 400
_SEED = 12

_Csi = NDArray[np.complex64]


def make_foreign(csi: _Csi, others: Sequence[Street]) -> dict[str, _Csi]:
    """Foreign CSI by kind, each `[n, antennas, subcarriers]`, from that of own users and of other cities."""
    rng = np.random.default_rng(_SEED)
    n, antennas, subcarriers = csi.shape
    noise = rng.standard_normal((2, *csi.shape))
    level = np.sqrt(np.square(np.abs(csi)).mean(axis=(1, 2), keepdims=True))
    kinds = {
        "noise": level * (noise[0] + 1j * noise[1]) / np.sqrt(2),
        "constant": level * np.exp(2j * np.pi * rng.random((n, 1, 1))) * np.ones(csi.shape),
        "conjugated": csi.conj(),
        "antennas reversed": csi[:, ::-1],
        "subcarriers reversed": csi[:, :, ::-1],
        "transposed": csi.transpose(0, 2, 1).reshape(n, antennas, subcarriers),
        "antennas fftshifted": np.fft.fftshift(csi, axes=1),
        "subcarriers fftshifted": np.fft.fftshift(csi, axes=2),
        "uncalibrated phases": csi * np.exp(2j * np.pi * rng.random((1, antennas, 1))),
    }
    for other in others:
        # At the level of the cell's users: otherwise the level alone would give many away.
        theirs = other.csi[:n]
        power = np.sqrt(np.square(np.abs(theirs)).mean(axis=(1, 2), keepdims=True))
        kinds[other.name.split("-")[0]] = theirs * (level[: len(theirs)] / power)
    return {kind: np.ascontiguousarray(found).astype(np.complex64) for kind, found in kinds.items()}


def measure_foreign(
    bench: Bench,
    served: ServedCell,
    csi: _Csi,
    truth: NDArray[np.float32],
    own: Mapping[str, _Csi],
    others: Sequence[Street],
) -> Iterator[dict[str, Any]]:
    """For each kind: AUROC against own users by radio, and what is answered, without a fix and with one of 1 m.

    `csi` and `truth` are of own users; those of other cities are taken to be where they are.
    """
    nowhere, none = draw_fixes(truth, None, 0)
    belonging = {radio: list_p_values(bench.locate(served, seen, nowhere, none)) for radio, seen in own.items()}
    for radio, p in belonging.items():
        yield {"kind": "own", "radio": radio, "users": len(p), "refused": int((p < 0.005).sum())}
    for kind, foreign in make_foreign(csi[:FOREIGN_USERS], others).items():
        places = truth[: len(foreign)]
        row: dict[str, Any] = {"kind": "foreign", "foreign": kind, "users": len(foreign), "auroc": {}}
        for label, sigma in (("no fix", None), ("fix of 1 m", 1.0)):
            located = bench.locate(served, foreign, *draw_fixes(places, sigma, 5))
            if sigma is None:
                strange = list_p_values(located)
                row["auroc"] = {radio: measure_auroc(p, strange) for radio, p in belonging.items()}
            row[label] = judge_answers(located, places)
        yield row


def list_p_values(located: Sequence[LocatedUser | Exception]) -> NDArray[np.float64]:
    """The p-values `[n]` of all users, also of those refused for their CSI; 0 for those refused for anything else."""
    return np.array(
        [
            one.estimate.belonging
            if isinstance(one, LocatedUser)
            else one.belonging
            if isinstance(one, CsiForeign)
            else 0.0
            for one in located
        ]
    )


def judge_answers(located: Sequence[LocatedUser | Exception], truth: NDArray[np.float32]) -> dict[str, int]:
    """How many are refused, are answered in a wide circle, and are off by more than twice their 95 % radius."""
    refused, wide, false = 0, 0, 0
    for one, place in zip(located, truth, strict=True):
        if not isinstance(one, LocatedUser):
            refused += 1
            continue
        ignored = why_ignored(one.placed.fix, one.estimate.coarse_used)
        wide += one.is_doubtful or ignored == "COARSE_POSITION_CONTRADICTED"
        ellipse, _ = one.uncertainty.around(95)
        false += bool(np.linalg.norm(place - one.estimate.position) > 2 * ellipse.semi_major)
    return {"refused": refused, "wide": wide, "false": false}


def measure_auroc(own: NDArray[np.float64], foreign: NDArray[np.float64]) -> float:
    """How often a foreign user has the smaller p-value of a random pair; ties count one half."""
    ranks = rankdata(np.concatenate([own, foreign]))
    above = ranks[: len(own)].sum() - len(own) * (len(own) + 1) / 2
    return float(above / (len(own) * len(foreign)))
