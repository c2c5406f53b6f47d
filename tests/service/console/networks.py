"""Answers of `GET /cells` for networks that no test can import."""

import time
from datetime import UTC, datetime
from typing import Any

from tests.service.console.surveys import DAY


def many_cells(number: int) -> dict[str, Any]:
    """A large network: each cell is worse than the one before, and some cannot be served."""
    good = {
        "version": "1-ab12cd34ef56",
        "fingerprints": 2000,
        "createdAt": "2026-01-01T00:00:00Z",
        "models": ["mateformer"],
    }
    cells: list[dict[str, Any]] = [
        good
        | {"cellId": f"gnb-{i:03}", "accuracy": {"median": i / 200, "p95": i / 100}, "newestMeasured": days_ago(i % 80)}
        for i in range(number - 9)
    ]
    no_model = good | {"models": []}
    small = {"cause": "CELL_TOO_SMALL", "detail": "the cell has 10 fingerprints, it needs 19"}
    other_array = {
        "cause": "CELL_NOT_SERVED_BY_ARTIFACT",
        "detail": "the cell's CSI is 8 x 32, the artifact expects 32 x 32",
    }
    cells += [
        good | {"cellId": "old", "newestMeasured": days_ago(300)},
        no_model | {"cellId": "ten", "fingerprints": 10, "notServed": small},
        no_model | {"cellId": "other-array", "notServed": other_array},
        good | {"cellId": "behind", "refused": "the cell has 5 fingerprints, it needs 19"},
        good | {"cellId": "boastful", "coverageContradicted": True},
    ]
    drift = {
        "signs": ["signal", "fixes"],
        "since": "2026-11-30T08:00:00Z",
        "noticed": "2026-11-30T09:00:00Z",
        "evidence": 1230000.0,
        "counted": 5000,
        "turnedDeg": 2.1,
    }
    cells.append(good | {"cellId": "rebuilt", "newestMeasured": days_ago(200), "drift": drift})
    cells[0]["drift"] = drift | {"signs": [], "since": None, "noticed": None}
    faults = [
        {"cellId": "broken", "cause": "CELL_UNREADABLE", "detail": "manifest 7 is damaged"},
        {"cellId": "far", "cause": "STORE_UNAVAILABLE", "detail": "the reference database cannot be reached"},
        {"cellId": "torn", "cause": "CELL_UNREADABLE", "detail": "a segment is damaged"},
    ]
    cells.append(good | {"cellId": "torn"})
    return {"cells": cells, "unreadable": ["broken", "far"], "faults": faults}


def days_ago(days: float) -> str:
    return datetime.fromtimestamp(time.time() - days * DAY - 1, UTC).isoformat()
