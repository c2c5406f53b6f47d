"""The page of the trust benchmark, from its rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy.stats import binom

from benchmarks.markdown import table

Rows = Sequence[dict[str, Any]]

_BAND = (0.93, 0.97)


def write_report(rows: Rows, confidences: Sequence[int]) -> str:
    cells = sorted({row["cell"] for row in rows})
    folds = len({row["fold"] for row in rows})
    head = [
        "# Trust",
        "    python -m benchmarks.trust",
        f"{len(cells)} cells of florence, which no training and no choice of settings saw ({', '.join(cells)}; `-nlos`:"
        " the base station sees a tenth to four tenths of the street; base: 32 x 1 antennas, 32 subcarriers over"
        " 40 MHz; 8x8: 8 x 8 antennas, 64 subcarriers over 100 MHz; both at 3.5 GHz). Each cell is served"
        f" {folds} times, with 1,500 fingerprints and about 1,000 other users of the street (fewer where paths reach"
        " fewer). *Constant*: the circle of the cell that held 95 % of the left-out fingerprints, the answer before.",
    ]
    return "\n\n".join([*head, *_write_ellipses(rows, confidences), *_write_foreign(rows)]) + "\n"


def _write_ellipses(rows: Rows, confidences: Sequence[int]) -> Iterable[str]:
    groups: dict[tuple[str, str, float | None], dict[str, list[dict[str, Any]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for row in rows:
        if row["kind"] == "ellipses":
            groups[row["survey"], row["radio"], row["fix"]][row["cell"]].append(row)
    at = list(confidences).index(95)
    lines, outside, total, everything = [], 0, 0, []
    for (_, radio, fix), by_cell in groups.items():
        shares = {cell: _share(some, at) for cell, some in by_cell.items()}
        everything += [(radio, fix, cell, share) for cell, share in shares.items()]
        within = sum(_BAND[0] <= share <= _BAND[1] for share in shares.values())
        outside, total = outside + len(shares) - within, total + len(shares)
        ratios = [np.median([one["area"] / one["constant"] for one in some]) for some in by_cell.values()]
        joined = [one for some in by_cell.values() for one in some]
        lines.append(
            [
                radio,
                "none" if fix is None else f"{fix:g} m",
                *(f"{_share(joined, number):.1%}" for number in range(len(confidences))),
                f"{min(shares.values()):.1%} to {max(shares.values()):.1%}",
                f"{within} of {len(shares)}",
                f"{np.median(ratios):.2f}",
                f"{min(ratios):.2f} to {max(ratios):.2f}",
            ]
        )
    yield "## Ellipses"
    yield (
        "*Users with ...*: only the users have this radio, the survey is clean; with street radio the cell states the"
        " users' clocks. All other rows: fingerprints and users have the same radio. 15 dB: white noise, random phase."
        " Street radio: 20 dB, random phase, sampling-time offset uniform within 20 ns."
    )
    yield table(
        [
            "radio",
            "fix",
            *(f"inside {one} %" for one in confidences),
            "95 %, by cell",
            "within 93-97 %",
            "median area / constant, median cell",
            "by cell",
        ],
        lines,
    )
    worst = sorted(everything, key=lambda one: abs(one[3] - 0.95))[-6:][::-1]
    named = "; ".join(
        f"{cell}, {radio}, {'no fix' if fix is None else f'fix of {fix:g} m'}: {share:.1%}"
        for radio, fix, cell, share in worst
    )
    some = next(iter(groups.values()))
    users = int(np.median([sum(one["answered"] for one in cell) for cell in some.values()]))
    chance = float(binom.cdf(int(0.93 * users), users, 0.95) + binom.sf(int(0.97 * users), users, 0.95))
    yield (
        f"{total - outside} of {total} cells and conditions are within 93 to 97 % at 95 %. Farthest off: {named}. Of so"
        f" many users ({users}) a perfect ellipse is outside the band with a probability of {chance:.2%}; the finite"
        " sample that a cell is calibrated on (600 fingerprints, standard deviation 0.9 %) adds more."
    )


def _share(rows: Rows, number: int) -> float:
    return sum(row["inside"][number] for row in rows) / sum(row["answered"] for row in rows)


def _write_foreign(rows: Rows) -> Iterable[str]:
    own: dict[str, list[dict[str, Any]]] = defaultdict(list)
    foreign: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["kind"] == "own":
            own[row["radio"]].append(row)
        elif row["kind"] == "foreign":
            foreign[row["foreign"]].append(row)
    radios = list(own)
    lines = []
    for kind, some in foreign.items():
        aurocs = {radio: [one["auroc"][radio] for one in some if radio in one["auroc"]] for radio in radios}
        clean = [one for one in some if one["survey"] == "clean"]
        users = sum(one["users"] for one in clean)
        lines.append(
            [
                kind,
                *(f"{np.mean(aurocs[radio]):.3f} ({min(aurocs[radio]):.3f})" for radio in radios),
                *(
                    f"{sum(one[fix][what] for one in clean) / users:.1%}"
                    for fix in ("no fix", "fix of 1 m")
                    for what in ("refused", "wide", "false")
                ),
            ]
        )
    yield "## CSI that does not belong to the cell"
    yield (
        "Foreign CSI is without noise and has the level of the cell's users. AUROC of the p-value against own users of"
        " each radio: mean over cells, and the smallest in brackets. Own users with street radio are of cells that"
        " state their users' clocks. *Refused*: `CSI_FOREIGN`, or another refusal. *Wide*: answered in a circle that"
        " holds wherever the user is, because the CSI is doubtful or contradicts the fix. *False*: answered, and off by"
        " more than twice the stated 95 % radius."
    )
    yield table(
        ["foreign", *(f"against own, {radio}" for radio in radios)]
        + [f"{what}, {fix}" for fix in ("no fix", "fix of 1 m") for what in ("refused", "wide", "false")],
        lines,
    )
    yield table(
        ["own users", "refused", "by cell, at most"],
        [
            [
                radio,
                f"{sum(one['refused'] for one in some) / sum(one['users'] for one in some):.2%}",
                f"{_worst_refusal(some):.2%}",
            ]
            for radio, some in own.items()
        ],
    )


def _worst_refusal(rows: Rows) -> float:
    by_cell: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_cell[row["cell"]].append(row)
    return max(sum(one["refused"] for one in some) / sum(one["users"] for one in some) for some in by_cell.values())
