"""What it costs to judge CSI and to state ellipses: milliseconds a user, in the thread that locates."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np

from benchmarks.markdown import table
from benchmarks.trust_cells import CLEAN, Bench, Street, draw_fixes
from service.inference.user import User
from service.locating.answers import answer_user
from service.locating.estimates import Uncertainty
from service.locating.users import LocatedUser
from service.telemetry.stopwatch import Stopwatch

USERS, TIMES, TURNS = 64, 30, 4
DISPATCHES = (1, 16)


def measure_cost(bench: Bench, street: Street) -> str:
    """A section of Markdown. The fastest run of each dispatch counts: other work only slows them down."""
    served = bench.serve(street, slice(0, 1500), CLEAN, (0.0, 0.0))
    rows = slice(1500, 1500 + USERS)
    located = bench.locate(served, street.csi[rows], *draw_fixes(street.positions[rows], 1.0, 1))
    found = [one for one in located if isinstance(one, LocatedUser)]
    judged = [one.placed.for_estimator() for one in found]
    unjudged = [user._replace(belonging=None) for user in judged]
    now = datetime.now(UTC)
    lines = []
    for size in DISPATCHES:
        # In turn, so that what else the machine does hits both.
        turns = [[_time_dispatches(bench, users, size) for users in (judged, unjudged)] for _ in range(TURNS)]
        whole, without = np.min(turns, axis=0).tolist()
        ellipses = _time(lambda: [one.uncertainty.around(95) for one in found]) / len(found)
        circles = _time(lambda: [Uncertainty.circle(1.0, 95).around(95) for _ in found]) / len(found)
        answers = _time(lambda: [answer_user(one, 95, now) for one in found]) / len(found)
        lines.append(
            [
                str(size),
                f"{1e3 * (whole + answers):.3f}",
                f"{1e3 * (whole - without):.3f}",
                f"{1e3 * (ellipses - circles):.3f}",
                f"{(whole - without + ellipses - circles) / (whole + answers):.1%}",
            ]
        )
    return "\n\n".join(
        [
            "## What it costs",
            "Milliseconds a user, without HTTP: locating and answering in all, judging whether the CSI belongs to the"
            " cell, and an ellipse instead of a circle. Noise removal from the spectra is part of the first column.",
            table(["users a dispatch", "in all", "judging", "ellipse", "share of both"], lines),
        ]
    )


def _time_dispatches(bench: Bench, users: Sequence[User], size: int) -> float:
    """Seconds a user."""
    groups = [users[first : first + size] for first in range(0, len(users), size)]

    def locate(some: Sequence[User]) -> float:
        return bench.engine.session.submit(
            _time_once, lambda: bench.engine.estimator.locate(some, Stopwatch())
        ).result()

    fastest = np.min([[locate(some) for some in groups] for _ in range(TIMES)], axis=0)
    return float(fastest.sum() / len(users))


def _time(work: Callable[[], object]) -> float:
    return min(_time_once(work) for _ in range(TIMES))


def _time_once(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
