"""Tables of the command line in a terminal of 80 columns."""

from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest

from fingerpost import LocateResponse, Problem
from service.commands.cell_tables import (
    print_cell,
    print_cells,
    print_collected,
    print_diff,
    print_fingerprints,
    print_retention_preview,
    print_truths,
    print_versions,
)
from service.commands.locations import print_locations
from service.commands.models import print_models
from service.commands.tables import id_column, make_table, number_column, print_table, text_column
from service.commands.user_file import FileUser

WIDTH = 80
CREATED = "2026-11-29T15:52:11.123456Z"
NOTE = "new kiosks, north-east corner; measured again because of the scaffolding"
VERSION: dict[str, Any] = {
    "version": "12-ab12cd34ef56",
    "createdAt": CREATED,
    "author": "somebody-with-a-long-name",
    "action": "appended",
    "added": 1200,
    "removed": 0,
    "fingerprints": 21934,
    "model": {"policy": "scadf-moe"},
    "note": NOTE,
}
CELL: dict[str, Any] = VERSION | {
    "cellId": "florence-0000",
    "change": VERSION,
    "retention": {"maxAgeS": 7_776_000, "maxFingerprints": 50000, "minSpacingM": 0.2},
    "point": {"lat": 43.77, "lon": 11.25},
    "height": 25,
    "azimuthDeg": 93.2,
    "array": {"rows": 1, "columns": 32},
    "carrierFrequency": 3.5e9,
    "bandwidth": 4e7,
    "subcarriers": 32,
    "quality": {},
}


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))


def _printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().out.splitlines()
    assert not any("…" in line for line in lines), lines  # a value that was cut
    return lines


def _fits(lines: list[str]) -> bool:
    return max(len(line.rstrip()) for line in lines) <= WIDTH


def test_versions_keep_their_words_in_one_piece(capsys: pytest.CaptureFixture[str]) -> None:
    print_versions({"versions": [VERSION, VERSION | {"version": "1-0123456789ab", "note": ""}], "next": 1})
    lines = _printed(capsys)
    assert _fits(lines)
    assert len(lines) < 14  # a note that wraps at every letter would take more
    text = "\n".join(lines)
    for words in ("12-ab12cd34ef56", "2026-11-29 15:52Z", "21934", "appended, +1200 -0", "located by scadf-moe"):
        assert words in text
    assert all(word in text.split() for word in (*NOTE.split(), VERSION["author"]))


def test_cells_keep_their_words_in_one_piece(capsys: pytest.CaptureFixture[str]) -> None:
    print_cells({"cells": [{"cellId": "florence-0000", **VERSION}], "unreadable": ["broken"]})
    lines = _printed(capsys)
    assert _fits(lines)
    assert all(word in " ".join(lines).split() for word in ("florence-0000", "12-ab12cd34ef56", *NOTE.split()))
    assert lines[-1].split() == ["broken", "damaged"]


def test_cells_show_their_states_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    cell = {**VERSION, "models": ["mateformer"], "newestMeasured": datetime.now(UTC).isoformat()}
    too_small = {"cause": "CELL_TOO_SMALL", "detail": "the cell has 10 fingerprints, the artifact needs 19"}
    print_cells(
        {
            "cells": [
                {"cellId": "good", **cell},
                {"cellId": "small", **cell, "models": [], "notServed": too_small},
                {
                    "cellId": "other",
                    **cell,
                    "models": [],
                    "notServed": {"cause": "CELL_NOT_SERVED", "detail": "64 x 32"},
                },
                {"cellId": "behind", **cell, "refused": "segment 17 is damaged"},
                {"cellId": "turned", **cell, "drift": {"signs": ["signal", "fixes"], "since": "2026-11-30T08:09:10Z"}},
                {"cellId": "calm", **cell, "drift": {"signs": []}},
                {"cellId": "old", **cell, "newestMeasured": "2020-01-02T03:04:05Z"},
                {"cellId": "half", **cell},
            ],
            "unreadable": ["broken", "away"],
            "faults": [
                {"cellId": "half", "cause": "CELL_UNREADABLE", "detail": "a segment is missing"},
                {"cellId": "away", "cause": "STORE_UNAVAILABLE", "detail": "no answer"},
            ],
        }
    )
    lines = _printed(capsys)
    assert _fits(lines)
    for cell_id, words in (
        ("good", "served"),
        ("small", "too small"),
        ("other", "not served"),
        ("behind", "refused"),
        ("turned", "drifted"),
        ("calm", "served"),
        ("old", "stale"),
        ("half", "damaged"),
        ("broken", "damaged"),
        ("away", "unreachable"),
    ):
        (line,) = (line for line in lines if line.startswith(f"{cell_id} "))
        assert words in line
    shown = " ".join(lines).split()
    reasons = (too_small["detail"], "64 x 32", "segment 17 is damaged", "2020-01-02 03:04Z", "is missing", "no answer")
    reasons += ("signal, fixes no longer fit the calibration since about 2026-11-30 08:09Z",)
    assert all(word in shown for reason in reasons for word in reason.split())


def test_ids_that_do_not_fit_make_lines_longer_and_are_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    name = "gnb-001-01-0004711-sector-north-west-rooftop-of-the-old-exchange"
    print_cells({"cells": [{"cellId": name, **VERSION}]})
    lines = _printed(capsys)
    assert any(name in line and VERSION["version"] in line and "21934" in line for line in lines)


def test_text_beside_ids_and_text_is_not_cut_either(capsys: pytest.CaptureFixture[str]) -> None:
    columns = (id_column("id"), text_column("name"), "scopes", number_column("rate"), id_column("created"))
    table = make_table(*columns)
    table.add_row(
        "389f3f42633e", "planner of the radio network", "read locate operate", "no limit", "2026-11-30 20:39Z"
    )
    print_table(table)
    assert any("2026-11-30 20:39Z" in line for line in _printed(capsys))


def test_models_show_digest_and_reason_whole(capsys: pytest.CaptureFixture[str]) -> None:
    model = {"folder": "mateformer-of-next-year", "family": "mateformer", "name": "street", "version": "2026.11"}
    ends = {
        "antennas": (1, 64),
        "subcarriers": (32, 64),
        "bandwidth": (20e6, 100e6),
        "carrierFrequency": (3.5e9, 3.5e9),
    }
    csi = {name: {"minimum": least, "maximum": most} for name, (least, most) in ends.items()}
    reason = "artifact.json: the schema version 99 is unknown to this service; it reads 1 to 4"
    print_models(
        {
            "models": [{**model, "csi": csi, "state": "available", "configured": True, "digest": "0123456789ab" * 6}],
            "unusable": [{"folder": "broken", "reason": reason}],
        }
    )
    lines = _printed(capsys)
    assert _fits(lines)
    shown = " ".join(lines).split()
    assert all(word in shown for word in (model["folder"], "available", "yes", "0123456789ab", *reason.split()))
    radios = "1 to 64 antennas, 32 to 64 subcarriers, 20 to 100 MHz, 3.5 GHz"
    assert all(word in shown for word in radios.split())


@pytest.mark.parametrize(
    ("survey", "users", "alike"), [(0.0, 12.0, True), (12.0, 12.0, False), (12.0, 0.0, False), (None, 12.0, False)]
)
def test_a_cell_says_whether_its_fingerprints_are_degraded_alike(
    capsys: pytest.CaptureFixture[str], survey: float | None, users: float, alike: bool
) -> None:
    print_cell(CELL | {"surveyStoNs": survey, "userStoNs": users})
    shown = " ".join(capsys.readouterr().out.split())
    assert f"users {users:g} ns" in shown
    assert ("degraded alike" in shown) == alike


def test_a_cell_its_fingerprints_and_a_difference_fit(capsys: pytest.CaptureFixture[str]) -> None:
    level = {"mean": 0.5, "median": 0.25, "p95": 1.25, "radius": 1.5}
    calibration = {"artifact": "mateformer 2026.11", "samples": 300, "confidence": 0.95, "rungs": [level]}
    print_cell(CELL | {"quality": {"calibration": {"x": calibration}}})
    place = {"id": "0123456789abcdef", "x": -1234.567, "y": 88.125, "time": CREATED, "sigma": 0.05}
    print_fingerprints({"fingerprints": [place], "count": 1, "version": VERSION["version"]})
    arrays = ({"rows": rows, "columns": 32 // rows, "spacing": 0.5} for rows in (1, 2))
    changed = dict(zip(("before", "after"), arrays, strict=True))
    ids = {"ids": 12 * ["0123456789abcdef"], "count": 12}
    print_diff(
        {
            "before": VERSION,
            "after": VERSION,
            "description": [{"field": "array", **changed}],
            "retention": [],
            "model": [],
            "added": ids,
            "removed": ids,
        }
    )
    lines = _printed(capsys)
    assert _fits(lines)
    assert ["none", "0.50", "0.25", "1.25", "1.50"] in [line.split() for line in lines]
    text = "\n".join(lines)
    for words in ("2026-11-29 15:52:11Z", "rows 2, columns 16, spacing 0.5", NOTE[:40]):
        assert words in text


def test_what_truths_say_fits(capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        "truths": 12000,
        "coverage": 94.8,
        "coverageLow": 94.4,
        "coverageHigh": 95.2,
        "confidence": 95,
        "verdict": "UNDECIDED",
        "bias": {"east": -12.34, "north": -0.05},
        "meanError": 12.34,
        "medianError": 10.25,
        "p95Error": 123.45,
    }
    print_truths(
        {
            "cellId": "florence-0000",
            "total": row,
            "sources": [row | {"source": "weighted-knn"}],
            "versions": [row | {"version": VERSION["version"]}],
            "days": [row | {"day": "2026-11-30"}],
        }
    )
    lines = _printed(capsys)
    assert _fits(lines)
    shown = " ".join(lines).split()
    for word in ("weighted-knn", VERSION["version"], "2026-11-30", "94.4-95.2", "undecided", "-12.34", "123.45"):
        assert word in shown


def test_collected_versions_and_previews_fit(capsys: pytest.CaptureFixture[str]) -> None:
    removed = {"cellId": "florence-0000", "versions": [*range(1, 300, 2)], "segments": 1234, "bytes": 12_345_678_901}
    print_collected({"cells": [removed], "unreadable": ["broken"], "dryRun": True})
    preview = {"version": VERSION["version"], "fingerprints": 21934, "selected": 1200}
    print_retention_preview(preview | {"tooOld": 1000, "tooClose": 150, "tooMany": 50})
    lines = _printed(capsys)
    assert _fits(lines)
    assert lines[-3:] == ["  1000 too old", "  150 too close to a newer one", "  50 too many"]


def test_locations_fit(capsys: pytest.CaptureFixture[str]) -> None:
    located = LocateResponse.model_construct(
        location_estimate=_Shape(_Point(lat=-43.7712345, lon=-111.2602345)),
        local_location_estimate=_Shape(_Point(x=-1234.56, y=-1234.56)),
        h_accuracy=1234.56,
        confidence=95,
    )
    refused = Problem(title="Conflict", status=409, cause="CELL_TOO_SMALL", detail="the cell has 10 fingerprints " * 5)
    user = FileUser.__new__(FileUser)
    object.__setattr__(user, "truth", (0.0, 0.0))
    print_locations([user, user], [located, refused])
    lines = _printed(capsys)
    assert _fits(lines)
    assert lines[3].split() == ["0", "-43.7712345", "-111.2602345", "-1234.56", "-1234.56", "1234.56", "95", "1745.93"]


class _Point(NamedTuple):
    lat: float = 0.0
    lon: float = 0.0
    x: float = 0.0
    y: float = 0.0


class _Shape(NamedTuple):
    point: _Point
