"""``fingerpost cells`` without a running service."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reference_db import DirectoryStore, Manifest, read_fingerprint_file
from reference_db.cell_description import write_description
from service.artifacts.directory_installation import DirectoryInstallation
from service.commands.cell_options import parse_timestamp
from tests.service.commands.conftest import Fingerpost
from tests.service.tiny_cell import tiny_cell
from tests.service.updates.wire import DESCRIPTION, npz, on_a_line

Write = Callable[..., Path]


@pytest.fixture
def current(database: DirectoryStore) -> Callable[[], Manifest]:
    def current() -> Manifest:
        manifest = database.current("c")
        assert manifest is not None
        return manifest

    return current


def done(fingerpost: Fingerpost, *arguments: object) -> str:
    result = fingerpost("cells", *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_import_list_and_show(
    fingerpost: Fingerpost, write: Write, current: Callable[[], Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINGERPOST_CONFIDENCE", "0.95")
    monkeypatch.setenv("FINGERPOST_CALIBRATION_SAMPLES", "60")
    monkeypatch.setenv("FINGERPOST_CALIBRATION_SIGMAS_M", "[1.0]")
    done(fingerpost, "import", "c", write(), "--note", "first")
    manifest = current()
    assert manifest.change.note == "first"
    assert "@" in manifest.change.author
    listed = done(fingerpost, "list")
    assert "first" in listed
    assert manifest.version in listed
    shown = done(fingerpost, "show", "c")
    assert "stated radius (95%)" in shown
    assert "± 1 m" in shown
    assert "none" in shown
    assert json.loads(done(fingerpost, "show", "c", "--json"))["version"] == manifest.version
    assert json.loads(done(fingerpost, "list", "--json"))["cells"][0]["cellId"] == "c"
    for area in ("37.5,-1,40,1", "27.5,-1,40,1"):
        done(fingerpost, "delete", "c", "--area", area)
    monkeypatch.setenv("COLUMNS", "200")
    assert "of version 1, 2 added or removed since" in " ".join(done(fingerpost, "show", "c", "--version", "2").split())
    versions = json.loads(done(fingerpost, "versions", "c", "--json"))["versions"]
    assert [one["calibratedOn"] for one in versions] == [3, 1, 1]  # 12 of 40 are more than a fifth
    assert "calibrated on" in done(fingerpost, "versions", "c")


def test_without_a_database_only_an_import_or_a_creation_makes_one(
    fingerpost: Fingerpost, write: Write, tmp_path: Path
) -> None:
    """A forgotten --url must not look like an empty service."""
    (tmp_path / "cell.json").write_text(write_description(tiny_cell()))
    database = tmp_path / "database"
    words: list[tuple[object, ...]] = [
        ("list",),
        ("show", "c"),
        ("gc",),
        ("append", "c", write()),
        ("rollback", "c", 1),
    ]
    for command in words:
        refused = fingerpost("cells", *command)
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert refused.stderr == f"fingerpost: no reference database at {database}; use --url or --database\n"
        assert not database.exists()
    imported = fingerpost("cells", "import", "c", write())
    assert imported.exit_code == 0, imported.output
    assert f"published at {database}" in imported.stdout
    assert "c" in done(fingerpost, "list")
    json.loads(done(fingerpost, "append", "c", write("more.safetensors", on_a_line(40, 50)), "--json"))
    created = fingerpost("cells", "create", "d", "--cell-file", "cell.json", "--database", tmp_path / "other")
    assert "no reference database" not in created.output
    assert (tmp_path / "other").is_dir() == (created.exit_code == 0)


def test_a_command_that_opens_the_database_is_no_replica(
    fingerpost: Fingerpost, write: Write, database: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others would wait for it when a model is activated."""
    reported: list[str] = []
    monkeypatch.setattr(DirectoryInstallation, "report", lambda _, replica: reported.append(replica.name))
    monkeypatch.setenv("FINGERPOST_FOLLOW_PERIOD_S", "0.001")
    done(fingerpost, "import", "c", write())
    done(fingerpost, "gc")
    assert reported == []
    assert not (tmp_path / "database" / "installation" / "replicas").exists()


def test_a_narrow_terminal_does_not_wrap_versions(
    fingerpost: Fingerpost, write: Write, current: Callable[[], Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    done(fingerpost, "import", "c", write(), "--author", "somebody-with-a-long-name", "--note", "a note of some words")
    first = current().version
    done(fingerpost, "append", "c", write("more.safetensors", on_a_line(40, 50)), "--author", "somebody-else")
    monkeypatch.setenv("COLUMNS", "80")
    assert current().version in done(fingerpost, "list")
    for words in (("versions", "c"), ("diff", "c", first, current().version)):
        shown = done(fingerpost, *words)
        assert first in shown
        assert current().version in shown


def test_create_append_delete_retain_and_roll_back(
    fingerpost: Fingerpost, write: Write, current: Callable[[], Manifest], tmp_path: Path
) -> None:
    (tmp_path / "cell.json").write_text(write_description(tiny_cell()))
    done(fingerpost, "create", "c", "--cell-file", "cell.json", "--author", "ann")
    assert (current().fingerprints, current().change.author) == (0, "ann")
    again = ("append", "c", write(), "--idempotency-key", "k", "--author", "ann")
    done(fingerpost, *again)
    done(fingerpost, *again)
    assert (current().number, current().fingerprints) == (2, 40)
    done(fingerpost, "append", "c", write("more.npz.safetensors", on_a_line(40, 50)), "--if-match", current().version)
    preview = done(fingerpost, "delete", "c", "--area", "-1,-1,9,1", "--before", "2024-01-01T00:00Z", "--dry-run")
    assert "10 of the 50 fingerprints" in preview
    done(fingerpost, "delete", "c", "--area", "-1,-1,9,1", "--before", "2024-01-01")
    listed = json.loads(done(fingerpost, "fingerprints", "c", "--limit", "2", "--json"))
    assert (listed["count"], len(listed["fingerprints"])) == (40, 2)
    first, second = (one["id"] for one in listed["fingerprints"])
    assert second in done(fingerpost, "fingerprints", "c", "--limit", "1", "--after", first)
    done(fingerpost, "delete", "c", "--id", first, "--id", second)
    assert current().fingerprints == 38
    limits = ("--max-age", "36500d", "--max-fingerprints", "30")
    version = current().version
    preview = done(fingerpost, "retention", "c", *limits, "--dry-run")
    assert f"of version {version} would be removed" in preview
    assert "too many" in preview
    assert current().version == version
    shown = done(fingerpost, "retention", "c", *limits)
    assert "age 36500d, 30 fingerprints" in shown
    assert (current().retention.max_age_s, current().fingerprints) == (36500 * 86400, 30)
    done(fingerpost, "retention", "c", "--keep-all", "--note", "[/enough]")
    assert current().retention.max_age_s is None
    versions = done(fingerpost, "versions", "c")
    assert "retention set" in versions
    assert "[/enough]" in versions
    assert "[/enough]" in done(fingerpost, "show", "c", "--version", "7")
    assert "[/enough]" in done(fingerpost, "list")
    diff = done(fingerpost, "diff", "c", "5")
    assert "0 added" in diff
    assert "8 removed" in diff
    assert "2 removed" in done(fingerpost, "diff", "c", "4", "5")
    done(fingerpost, "rollback", "c", "3", "--note", "went wrong")
    assert (current().number, current().fingerprints, current().change.note) == (8, 50, "went wrong")
    assert "40" in done(fingerpost, "show", "c", "--version", "2")


@pytest.mark.parametrize("name", ["out.npz", "out.safetensors", None])
def test_an_export_can_be_imported(
    fingerpost: Fingerpost, write: Write, current: Callable[[], Manifest], name: str | None
) -> None:
    done(fingerpost, "import", "c", write())
    printed = done(fingerpost, "export", "c", *([] if name is None else [name])).strip()
    assert printed == (name or f"c-{current().version}.safetensors")
    assert len(read_fingerprint_file(Path(printed))[1]) == 40
    refused = fingerpost("cells", "export", "c", *([] if name is None else [name]))
    assert (refused.exit_code, refused.stderr) == (
        1,
        f"fingerpost: {printed} is there already; --force overwrites it\n",
    )
    again = json.loads(done(fingerpost, "export", "c", *([] if name is None else [name]), "--force", "--json"))
    assert again == {"file": printed, "version": current().version}
    done(fingerpost, "import", "c", printed)
    diff = json.loads(done(fingerpost, "diff", "c", "1", "--json"))
    assert (diff["added"]["count"], diff["removed"]["count"]) == (0, 0)
    assert not list(Path().glob(".*"))


def test_the_description_may_be_in_a_file_of_its_own(
    fingerpost: Fingerpost, current: Callable[[], Manifest], tmp_path: Path
) -> None:
    (tmp_path / "bare.npz").write_bytes(npz(on_a_line(0, 40)))
    bare = fingerpost("cells", "import", "c", "bare.npz")
    assert bare.exit_code == 1
    assert "CELL_NOT_FOUND" in bare.output
    (tmp_path / "cell.json").write_text(write_description(tiny_cell()))
    done(fingerpost, "import", "c", "bare.npz", "--cell-file", "cell.json")
    assert (current().cell, current().fingerprints) == (tiny_cell(), 40)
    done(fingerpost, "import", "c", "bare.npz")  # keeps the description
    assert current().cell == tiny_cell()


def test_the_description_may_have_the_form_of_the_api(
    fingerpost: Fingerpost, current: Callable[[], Manifest], tmp_path: Path
) -> None:
    (tmp_path / "cell.json").write_text(json.dumps(DESCRIPTION | {"height": 9.5}))
    done(fingerpost, "create", "c", "--cell-file", "cell.json")
    assert current().cell.height == 9.5


def test_what_show_prints_goes_back_in_as_a_cell_file(
    fingerpost: Fingerpost, write: Write, current: Callable[[], Manifest], tmp_path: Path
) -> None:
    done(fingerpost, "import", "c", write())
    done(fingerpost, "correct", "c", "--azimuth", "217.3", "--survey-sto", "12", "--area=-100,-100,900,100")
    (tmp_path / "cell.json").write_text(done(fingerpost, "show", "c", "--json"))
    first = current()
    done(fingerpost, "import", "c", write(), "--cell-file", "cell.json")
    assert (current().number, current().cell) == (first.number + 1, first.cell)
    done(fingerpost, "delete", "c", "--whole-cell", "--force")
    done(fingerpost, "create", "c", "--cell-file", "cell.json")
    assert current().cell == first.cell


def test_faults_of_a_cell_file_come_a_line_each_with_what_to_write(fingerpost: Fingerpost, tmp_path: Path) -> None:
    wrong = DESCRIPTION | {"yaw": 0.486, "carrier_frequency": 3.5e9}
    (tmp_path / "cell.json").write_text(json.dumps(wrong))
    for command in (("create", "c"), ("import", "c", "bare.npz")):
        refused = fingerpost("cells", *command, "--cell-file", "cell.json")
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert refused.stderr.splitlines() == [
            "fingerpost: cell.json: yaw (radians counter-clockwise from east) is no field any more; "
            'write "azimuthDeg": 62.154 (compass, degrees clockwise from north)',
            "fingerpost: cell.json: carrier_frequency is no field any more; write carrierFrequency",
        ]


def test_a_bad_file_changes_nothing_and_names_the_row(
    fingerpost: Fingerpost, write: Write, current: Callable[[], Manifest], tmp_path: Path
) -> None:
    done(fingerpost, "import", "c", write())
    before = current()
    fingerprints = on_a_line(0, 40)
    fingerprints.csi[31, 0, 0] = np.nan
    (tmp_path / "bad.npz").write_bytes(npz(fingerprints, tiny_cell()))
    for command in ("import", "append"):
        result = fingerpost("cells", command, "c", "bad.npz")
        assert result.exit_code == 1
        assert "FINGERPRINT_REFUSED: row 31: " in result.output
        assert "Traceback" not in result.output
    assert current() == before


def test_positions_as_numpy_users_write_them_are_imported(
    fingerpost: Fingerpost, current: Callable[[], Manifest], tmp_path: Path
) -> None:
    line = on_a_line(0, 40)
    east, north = line.positions.T
    (tmp_path / "c.npz").write_bytes(npz(line, tiny_cell(), positions=np.array([east, north]).T))
    done(fingerpost, "import", "c", "c.npz")
    assert current().fingerprints == 40


def test_a_cell_that_the_artifact_cannot_serve_needs_force(
    fingerpost: Fingerpost, database: DirectoryStore, tmp_path: Path
) -> None:
    (tmp_path / "cell.json").write_text(write_description(tiny_cell(antennas=65)))
    create = ("cells", "create", "c", "--cell-file", "cell.json")
    refused = fingerpost(*create)
    assert refused.exit_code == 1
    assert "CELL_NOT_SERVED_BY_ARTIFACT" in refused.output
    assert "antennas is 65, the artifact was trained on 1 to 64" in " ".join(refused.output.split())
    assert database.cells() == []
    assert fingerpost(*create, "--force").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("import", "d", "c.safetensors"), "describes cell 'c'"),
        (("import", "c", "absent.safetensors"), "absent.safetensors"),
        (("append", "c", "c.safetensors"), "CELL_NOT_FOUND"),
        (("import", "c", "c.safetensors", "--if-match", "1-ab"), "PRECONDITION_FAILED"),
        (("import", "c", "c.safetensors", "--cell-file", "absent.json"), "absent.json"),
        (("import", "c", "c.safetensors", "--artifact", "nowhere"), "the artifact cannot be used"),
        (("import", "c", "c.safetensors", "--database", "ftp://nowhere"), "reference database"),
        (("create", "c", "--cell-file", "c.safetensors"), "c.safetensors"),
        (("show", "nowhere"), "CELL_NOT_FOUND"),
        (("list", "--url", "http://127.0.0.1:9"), "no answer from http://127.0.0.1:9"),
        (("list", "--url", "nonsense"), "no answer from nonsense"),
        (("list", "--url", "http://127.0.0.1:99999"), "the port must be 65535 at most"),
        (("list", "--url", "http://" + "a" * 70), "no answer from"),
        (("export", "c"), "CELL_NOT_FOUND"),
    ],
)
def test_a_refusal_ends_the_command_with_one_line(
    fingerpost: Fingerpost, write: Write, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    write()
    (tmp_path / "database").mkdir()
    result = fingerpost("cells", *arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("import", "c", "c.txt"),
            "c.txt: the suffix must be .safetensors, .npz, .npy, .csv, .mat, .h5, .hdf5, .tfrecords, .pcap or .dat",
        ),
        (("show", "../plane"), "'../plane' is not a cell name"),
        (("show", "c", "--version", "../1"), "'../1' is not a version"),
        (("delete", "c", "--area", "1,2,3"), "west,south,east,north"),
        (("delete", "c", "--before", "yesterday"), "'yesterday' is not a time"),
        (("delete", "c"), "give at least one of"),
        (("retention", "c", "--max-age", "90"), "--max-age '90' has no unit: write 90d for days"),
        (("retention", "c", "--max-age", "soon"), "--max-age 'soon' must be a duration such as 30d"),
        (("retention", "c", "--max-age", "inf"), "--max-age 'inf' must be at most 36500d"),
        (("retention", "c", "--max-age", "nan"), "--max-age 'nan' must be at most 36500d"),
        (("retention", "c", "--max-age", "9" * 400 + "d"), "must be at most 36500d"),
        (("retention", "c", "--max-age", "P1M"), "--max-age 'P1M' must be a duration such as 30d"),
        (("retention", "c", "--min-spacing", "nan"), "nan is not a finite number"),
        (("correct", "c", "--height", "inf"), "inf is not"),
        (("correct", "c", "--height", "-1"), "--height"),
        (("correct", "c", "--bandwidth", "nan"), "nan is not a finite number"),
        (("correct", "c", "--point", "nan,1"), "'nan,1' has NaN or infinity"),
        (("delete", "c", "--circle", "nan,1,2"), "'nan,1,2' has NaN or infinity"),
        (("delete", "c", "--before", "9999-12-31T23:59:59-12:00"), "is not a time"),
        (("create", "c", "--cell-file", "cell.json", "--idempotency-key", "é"), "'é' cannot be sent"),
        (("rollback", "c", "1", "--if-match", "é"), "'é' cannot be sent"),
        (("rollback", "c", "1", "--author", "\udcff"), "'\\udcff' cannot be sent"),
        (("list", "--database", ""), "--database is empty"),
        (("retention", "c"), "--keep-all"),
        (("export", "c", "c.csv"), "is neither .safetensors nor .npz"),
        (("list", "--limit", "x"), "--limit"),
    ],
)
def test_a_command_typed_wrongly_exits_with_status_2(
    fingerpost: Fingerpost, arguments: tuple[str, ...], message: str
) -> None:
    Path("database").mkdir()
    Path("cell.json").write_text(write_description(tiny_cell()))
    result = fingerpost("cells", *arguments)
    assert (result.exit_code, result.stdout, message in result.stderr) == (2, "", True), result.stderr


def test_timestamps_are_parsed() -> None:
    assert parse_timestamp("2026-01-31T12:00:00+01:00").startswith("2026-01-31T")
    assert "T00:00:00" in parse_timestamp("2026-01-31")
    assert parse_timestamp("2026-01-31")[19:]  # with the time zone of this machine
