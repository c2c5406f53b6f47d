import json
import re
import stat
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.auth.keys import KeysUnreadable, digest_of, edit_keys, make_key, read_keys
from service.commands.cli import app
from tests.service.tiny_service import added_key

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "secrets" / "keys.json"


@pytest.fixture
def keys(file: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("FINGERPOST_KEYS_FILE", str(file))
    return lambda *arguments: CliRunner().invoke(app, ["keys", *arguments], catch_exceptions=False)


def test_keys_are_unique_and_the_file_holds_only_hashes(file: Path) -> None:
    made = [added_key(file, ["locate"]) for _ in range(20)]
    assert all(re.fullmatch(r"fp_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", key) for key in made)
    assert len({key[16:] for key in made}) == 20
    content = file.read_text()
    assert all(key[16:] not in content for key in made)
    assert [record.sha256 for record in read_keys(file)] == [digest_of(key.encode()).hex() for key in made]


def test_the_record_of_a_key_in_the_file(file: Path) -> None:
    key, record = make_key("van 3", ["locate", "read"], 20.0, NOW)
    with edit_keys(file) as keys:
        keys.append(record)
    assert read_keys(file) == [record]
    assert json.loads(file.read_bytes())["keys"] == [
        {
            "id": key[3:15],
            "name": "van 3",
            "sha256": record.sha256,
            "scopes": ["locate", "read"],
            "rate": 20.0,
            "created_at": "2026-01-02T03:04:00Z",
        }
    ]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[" * 100_000,
        lambda text: "{}",
        lambda text: text.replace('"read"', '"everything"'),
        lambda text: text.replace('"read"', ""),
        lambda text: text.replace('"rate"', '"speed"'),
        lambda text: text.replace('"sha256": "', '"sha256": "x'),
        lambda text: json.dumps({"keys": json.loads(text)["keys"] * 2}),
    ],
)
def test_a_damaged_file_is_refused_as_a_whole(file: Path, damage: Callable[[str], str]) -> None:
    added_key(file, ["read"])
    damaged = damage(file.read_text())
    assert damaged != file.read_text()
    file.write_text(damaged)
    with pytest.raises(KeysUnreadable, match=re.escape(str(file))):
        read_keys(file)
    with pytest.raises(KeysUnreadable), edit_keys(file):
        pass
    assert file.read_text() == damaged


def test_concurrent_edits_lose_no_key(file: Path) -> None:
    threads = [threading.Thread(target=added_key, args=(file, ["read"])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_keys(file)) == 8
    assert list(file.parent.iterdir()) == [file]


def test_editing_a_symbolic_link_changes_its_target(file: Path, tmp_path: Path) -> None:
    file.parent.mkdir()
    file.symlink_to(tmp_path / "elsewhere.json")
    added_key(file, ["read"])
    assert file.is_symlink()
    assert stat.S_ISREG((tmp_path / "elsewhere.json").lstat().st_mode)


def test_commands_add_list_and_revoke(keys: Callable[..., Result], file: Path) -> None:
    added = keys("add", "prometheus", "--scope", "read", "--rate", "2")
    assert added.exit_code == 0, added.output
    key = added.stdout.strip()
    assert re.fullmatch(r"fp_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", key)
    keys("add", "operators", "--scope", "operate", "--scope", "read")
    listed = keys("list").stdout
    assert all(word in listed for word in (key[3:15], "prometheus", "operate", "read", "no limit"))
    assert key[16:] not in listed
    assert keys("revoke", key[3:15]).exit_code == 0
    assert [record.name for record in read_keys(file)] == ["operators"]


def test_commands_print_json(keys: Callable[..., Result]) -> None:
    added = json.loads(keys("add", "prometheus", "--scope", "read", "--rate", "2", "--json").stdout)
    key = added.pop("key")
    (listed,) = json.loads(keys("list", "--json").stdout)["keys"]
    assert listed == added
    assert (listed["id"], listed["scopes"], listed["rate"]) == (key[3:15], ["read"], 2)
    assert json.loads(keys("revoke", key[3:15], "--json").stdout) == {"revoked": [key[3:15]]}


def test_a_list_of_keys_fits_a_narrow_terminal(keys: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    keys(
        "add",
        "the planning department of the city of Florence",
        "--scope",
        "operate",
        "--scope",
        "read",
        "--rate",
        "2000",
    )
    lines = keys("list").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    assert "operate" in lines[-2]  # a scope a line
    assert "read" in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("add", "x", "--scope", "everything"), "everything"),
        (("add", "", "--scope", "read"), "at least 1 character"),
        (("revoke", "0123456789ab"), "no key 0123456789ab"),
    ],
)
def test_mistakes_change_nothing(
    keys: Callable[..., Result], file: Path, arguments: tuple[str, ...], message: str
) -> None:
    added_key(file, ["read"])
    before = file.read_bytes()
    result = keys(*arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert file.read_bytes() == before


def test_listing_a_missing_file_fails(keys: Callable[..., Result]) -> None:
    result = keys("list")
    assert result.exit_code == 1
    assert "No such file" in result.output
