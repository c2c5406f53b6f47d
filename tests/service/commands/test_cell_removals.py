"""``fingerpost cells``: the commands that remove fingerprints, versions and cells, and that correct descriptions."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reference_db import DirectoryStore, Manifest, Origin, append_fingerprints, read_contents, replace_cell
from service.commands.cell_tables import print_collected
from tests.service.commands.conftest import Fingerpost
from tests.service.tiny_cell import tiny_cell
from tests.service.updates.wire import on_a_line

Write = Callable[..., Path]


def done(fingerpost: Fingerpost, *arguments: object) -> str:
    result = fingerpost("cells", *arguments)
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


def failed(fingerpost: Fingerpost, *arguments: object, status: int = 1) -> str:
    result = fingerpost("cells", *arguments)
    assert result.exit_code == status, result.output
    return " ".join(result.stderr.split())


def current(database: DirectoryStore) -> Manifest:
    manifest = database.current("c")
    assert manifest is not None
    return manifest


@pytest.mark.parametrize("command", ["delete", "forget"])
def test_the_criteria_are_asked_for_by_the_names_of_their_options(
    fingerpost: Fingerpost, write: Write, command: str
) -> None:
    done(fingerpost, "import", "c", write())
    said = failed(fingerpost, command, "c", status=2)
    assert said.startswith("fingerpost: give at least one of --id, --area, --circle, --before and --unknown-time")
    assert ("--whole-cell" in said) == (command == "delete")


def test_a_reason_that_names_no_field_is_printed_once(fingerpost: Fingerpost, write: Write) -> None:
    done(fingerpost, "import", "c", write())
    empty = ("correct", "c", "--rows", 1, "--columns", 5)
    assert failed(fingerpost, *empty).count("number of antennas") == 1
    backwards = failed(fingerpost, "correct", "c", "--bandwidth", "1e12")
    assert backwards.count("bandwidth must be below") == 1


def test_force_says_what_it_does_to_a_whole_cell(fingerpost: Fingerpost) -> None:
    assert "With --whole-cell: delete the cell" in done(fingerpost, "delete", "--help")


def test_old_versions_are_removed(
    fingerpost: Fingerpost, database: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINGERPOST_HISTORY_VERSIONS", "2")
    begin = datetime.now(UTC) - timedelta(days=1)
    for number in range(5):
        origin, before = Origin("ann", begin + timedelta(minutes=number)), database.current("c")
        update = (
            replace_cell(None, tiny_cell(), on_a_line(0, 3), origin)
            if before is None
            else append_fingerprints(read_contents(database, before), on_a_line(9 * number, 9 * number + 3), origin)
        )
        database.publish(update.manifest, update.segments, update.manifest.parent)
    preview = done(fingerpost, "gc", "--dry-run")
    assert "c 1-3" in preview
    assert "3 versions would be removed" in preview
    assert len(database.numbers("c")) == 5
    assert "CELL_NOT_FOUND" in failed(fingerpost, "gc", "none")
    collected = json.loads(done(fingerpost, "gc", "c", "--json"))
    assert collected["cells"][0]["versions"] == [1, 2, 3]
    assert database.numbers("c") == [4, 5]
    assert "0 versions removed, 0 bytes" in done(fingerpost, "gc")


def test_runs_of_versions_and_damaged_cells_are_printed_shortly(capsys: pytest.CaptureFixture[str]) -> None:
    one = {"cellId": "c", "versions": [1, 2, 3, 5, 7, 8], "segments": 2, "bytes": 9}
    print_collected({"dryRun": False, "cells": [one], "unreadable": ["d"]})
    printed = " ".join(capsys.readouterr().out.split())
    assert "c 1-3, 5, 7-8 2 9 d damaged" in printed


def test_fingerprints_are_forgotten(fingerpost: Fingerpost, write: Write, database: DirectoryStore) -> None:
    done(fingerpost, "import", "c", write())
    preview = done(fingerpost, "forget", "c", "--area=-1,-1,4.5,1", "--dry-run")
    assert "5 fingerprints of version 1-" in preview
    assert "would be removed: 1" in preview
    forgotten = done(fingerpost, "forget", "c", "--area=-1,-1,4.5,1", "--note", "request 17")
    assert "5 fingerprints forgotten in version 2-" in forgotten
    assert "versions removed: 1 35 fingerprints left" in forgotten
    assert (database.numbers("c"), current(database).change.note) == ([2], "request 17")
    assert "at least one of --id" in failed(fingerpost, "forget", "c", status=2)


def test_a_whole_cell_is_deleted(fingerpost: Fingerpost, write: Write, database: DirectoryStore) -> None:
    done(fingerpost, "import", "c", write())
    assert "CONDITION_MISSING" in failed(fingerpost, "delete", "c", "--whole-cell")
    assert "no criterion" in failed(fingerpost, "delete", "c", "--whole-cell", "--force", "--unknown-time", status=2)
    assert "PRECONDITION_FAILED" in failed(fingerpost, "delete", "c", "--whole-cell", "--if-match", "1-0123456789ab")
    version = current(database).version
    deleted = done(fingerpost, "delete", "c", "--whole-cell", "--if-match", version)
    assert "cell c is deleted: 1 versions, 1 segments" in deleted
    assert database.cells() == []
    done(fingerpost, "import", "c", write())
    done(fingerpost, "delete", "c", "--whole-cell", "--force")


def test_a_description_is_corrected(fingerpost: Fingerpost, write: Write, database: DirectoryStore) -> None:
    done(fingerpost, "import", "c", write())
    options = ("--height", "22", "--azimuth", "0", "--spacing", "0.6", "--carrier", "3.6e9", "--bandwidth", "20e6")
    assert "22 m high" in done(fingerpost, "correct", "c", *options, "--area=-10,-10,100,10")
    cell = current(database).cell
    assert (cell.height, cell.array.spacing, cell.carrier_frequency, cell.bandwidth) == (22, 0.6, 3.6e9, 20e6)
    assert cell.yaw == pytest.approx(1.5708, abs=1e-4)
    assert "MANDATORY_IE_MISSING" in failed(fingerpost, "correct", "c", "--point", "43.701,11.2")
    before = read_contents(database, current(database)).positions
    done(fingerpost, "correct", "c", "--point", "43.70001,11.2", "--fingerprints", "stay")
    after = read_contents(database, current(database)).positions
    assert (before - after).mean(axis=0) == pytest.approx([0, 1.11], abs=0.01)
    done(fingerpost, "correct", "c", "--point", "43.7,11.2", "--fingerprints", "move")
    assert (read_contents(database, current(database)).positions == after).all()
    assert "antennas" in failed(fingerpost, "correct", "c", "--rows", "2")
    shown = done(fingerpost, "correct", "c", "--columns", "2", "--polarisations", "2", "--user-sto", "12")
    assert "1 x 2, two polarisations" in shown
    assert "users 12 ns (1 sigma)" in shown
    cell = current(database).cell
    assert (cell.antennas, cell.array.polarisations) == (4, 2)
    assert (cell.survey_sto, cell.user_sto) == (None, pytest.approx(12e-9))
