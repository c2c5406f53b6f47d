"""``fingerpost cells import-all``: many cells from one manifest."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from reference_db import Cell, DirectoryStore, write_fingerprint_file
from reference_db.cell_description import write_description
from tests.service.commands.conftest import Fingerpost
from tests.service.tiny_cell import tiny_cell
from tests.service.updates.wire import on_a_line

Entries = list[dict[str, object]]


def named(name: str) -> Cell:
    return tiny_cell().model_copy(update={"cell_id": name})


@pytest.fixture
def entries(tmp_path: Path) -> Entries:
    """A cell with its description inside, one in another layout, and one without fingerprints; in a folder."""
    folder = tmp_path / "surveys"
    folder.mkdir()
    line = on_a_line(0, 40)
    write_fingerprint_file(folder / "one.safetensors", named("one"), line)
    np.savez(folder / "two.npz", H=line.csi.swapaxes(1, 2), pos=line.positions)
    (folder / "two.json").write_text(write_description(named("two")))
    (folder / "three.json").write_text(write_description(named("three")))
    second = {"cell": "two", "file": "two.npz", "cell_file": "two.json", "axes": "subcarriers,antennas"}
    return [{"file": "one.safetensors"}, second, {"cell_file": "three.json"}]


@pytest.mark.parametrize("suffix", [".yaml", ".json", ".csv"])
def test_all_cells_of_a_manifest_are_imported(
    fingerpost: Fingerpost, entries: Entries, database: DirectoryStore, tmp_path: Path, suffix: str
) -> None:
    manifest = tmp_path / "surveys" / f"all{suffix}"
    if suffix == ".csv":
        with manifest.open("w", newline="") as file:
            rows = csv.DictWriter(file, ["cell", "file", "cell_file", "axes"])
            rows.writeheader()
            rows.writerows(entries)
    else:
        manifest.write_text((yaml.safe_dump if suffix == ".yaml" else json.dumps)({"cells": entries}))
    checked = fingerpost("cells", "import-all", manifest, "--check-only")
    assert checked.exit_code == 0, checked.output
    assert "3 cells would be published" in checked.stdout
    assert "cell two: warning: " in checked.stderr
    assert database.cells() == []
    done = fingerpost("cells", "import-all", manifest, "--note", "first survey")
    assert done.exit_code == 0, done.output
    assert "3 cells published" in done.stdout
    held = {name: database.current(name) for name in database.cells()}
    assert {name: one.fingerprints for name, one in held.items() if one} == {"one": 40, "two": 40, "three": 0}
    assert {one.change.note for one in held.values() if one} == {"first survey"}
    assert held["one"] is not None
    assert held["two"] is not None
    one, two = (database.get_segment(name, cell.segments[0].digest) for name, cell in held.items() if name != "three")
    assert len(one) == len(two)


def test_every_fault_of_a_manifest_is_a_line_and_nothing_is_written(
    fingerpost: Fingerpost, entries: Entries, database: DirectoryStore, tmp_path: Path
) -> None:
    wrong: Entries = [
        *entries,
        {"file": "absent.npz", "cell": "four"},
        {"cell": "five"},
        {"file": "two.npz"},
        {"file": "one.safetensors", "axis": "antennas"},
        {"file": "two.npz", "cell": "a/b"},
        {"cell_file": "three.json"},
    ]
    manifest = tmp_path / "surveys" / "all.json"
    manifest.write_text(json.dumps({"cells": wrong}))
    result = fingerpost("cells", "import-all", manifest)
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    for place, complaint in enumerate(
        (
            "cell 4: there is no file absent.npz",
            "cell 5: it needs file, cell_file or both",
            "cell 6: two.npz describes no cell; name it by cell, or describe it by cell_file",
            "cell 7: axis: Extra inputs are not permitted",
            "cell 8: cell: String should match",
            "cell three is named 2 times",
            "nothing was written",
        )
    ):
        assert complaint in lines[place]
    assert len(lines) == 7
    assert database.cells() == []


def test_one_refused_cell_keeps_all_others_out(
    fingerpost: Fingerpost, entries: Entries, database: DirectoryStore, tmp_path: Path
) -> None:
    del entries[1]["axes"]
    line = on_a_line(0, 40)
    line.csi[7] = 0
    np.savez(tmp_path / "surveys" / "zero.npz", csi=line.csi, positions=line.positions)
    entries.append({"cell": "two-b", "file": "zero.npz", "cell_file": "b.json"})
    (tmp_path / "surveys" / "b.json").write_text(write_description(named("two-b")))
    manifest = tmp_path / "surveys" / "all.json"
    manifest.write_text(json.dumps({"cells": entries}))
    result = fingerpost("cells", "import-all", manifest)
    assert result.exit_code == 1
    assert "cell two: fault: row 0: csi has 3 antennas and 4 subcarriers" in result.stderr
    assert "cell two-b: fault: row 7: csi is all zero" in result.stderr
    assert "2 of 4 cells would be refused; nothing was written" in result.stderr
    assert database.cells() == []


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("all.yaml", "cells: [", "all.yaml cannot be read"),
        ("all.json", "[]", "expected a list of cells under the name cells"),
        ("all.json", '{"cells": [], "defaults": 1}', "expected a list of cells under the name cells"),
        ("all.txt", "", "the suffix must be"),
        ("all.csv", "cell;file\na;b\n", "write commas between its columns"),
        ("all.csv", "cell,file\na,b.npz,c\n", "cell 1: it has more fields than the first line has names"),
        ("all.csv", "cell,name\na,b\n", "no column is named 'name'; there are axes"),
    ],
)
def test_what_is_no_manifest_is_refused_in_a_line(
    fingerpost: Fingerpost, tmp_path: Path, name: str, content: str, complaint: str
) -> None:
    (tmp_path / name).write_text(content)
    result = fingerpost("cells", "import-all", name)
    assert result.exit_code == 1
    assert complaint in result.stderr
    assert result.stderr.splitlines()[-1] == "fingerpost: nothing was written"
