"""``fingerpost cells backup`` and ``restore``."""

import io
import json
import os
import tarfile
from pathlib import Path

from reference_db import DirectoryStore, open_store
from tests.redis_servers import RedisServer, empty
from tests.service.commands.conftest import Fingerpost
from tests.service.updates.wire import on_a_line


def test_a_database_moves_into_redis_and_back(
    fingerpost: Fingerpost, write: object, database: DirectoryStore, redis_server: RedisServer, tmp_path: Path
) -> None:
    empty(redis_server)
    assert fingerpost("cells", "import", "c", write()).exit_code == 0  # type: ignore[operator]
    assert fingerpost("cells", "append", "c", write("more.npz.safetensors", on_a_line(50, 60))).exit_code == 0  # type: ignore[operator]
    written = fingerpost("cells", "backup", "all.tar")
    assert written.exit_code == 0, written.output
    assert "1 cells, 2 versions of" in written.stdout
    refused = fingerpost("cells", "backup", "all.tar")
    assert refused.exit_code == 1
    assert "all.tar exists; --force overwrites it" in refused.stderr
    forced = json.loads(fingerpost("cells", "backup", "all.tar", "--force", "--json").stdout)
    assert (forced["archive"], forced["cells"], forced["versions"], forced["leftOut"]) == ("all.tar", 1, 2, [])

    tried = fingerpost("cells", "restore", "all.tar", "--database", redis_server.url, "--dry-run")
    assert "1 cells would be restored, 0 would be replaced" in tried.stdout
    restored = fingerpost("cells", "restore", "all.tar", "--database", redis_server.url)
    assert restored.exit_code == 0, restored.output
    assert "1 cells restored" in restored.stdout
    store = open_store(redis_server.url)
    assert store.newest("c") == database.newest("c")
    store.close()
    assert fingerpost("cells", "backup", "back.tar", "--database", redis_server.url).exit_code == 0
    again = fingerpost("cells", "restore", "back.tar")
    assert "0 cells restored, 0 replaced by a new version, 1 were there already" in again.stdout
    counted = json.loads(fingerpost("cells", "restore", "back.tar", "--json").stdout)
    assert (counted["restored"], counted["replaced"], counted["present"]) == (0, 0, 1)


def test_a_restore_over_other_versions_says_which_cells_and_needs_force(
    fingerpost: Fingerpost, write: object, database: DirectoryStore
) -> None:
    fingerpost("cells", "import", "c", write())  # type: ignore[operator]
    fingerpost("cells", "backup", "all.tar", "--current-only")
    fingerpost("cells", "retention", "c", "--max-fingerprints", "30")
    refused = fingerpost("cells", "restore", "all.tar")
    assert refused.exit_code == 1
    assert "cell c has other versions in the reference database" in refused.stderr
    assert "nothing was restored; --force publishes" in refused.stderr
    assert fingerpost("cells", "restore", "all.tar", "--force", "--author", "ada").exit_code == 0
    manifest = database.current("c")
    assert manifest is not None
    assert (manifest.number, manifest.fingerprints, manifest.change.author) == (3, 40, "ada")


def test_what_cannot_be_backed_up_or_restored_is_said_in_one_line(fingerpost: Fingerpost, tmp_path: Path) -> None:
    (tmp_path / "half.tar").write_bytes(b"half")
    for arguments, complaint in (
        (("backup", "all.tar"), "does not exist"),
        (("restore", "none.tar"), "none.tar cannot be read"),
        (("restore", "half.tar"), "half.tar is no complete backup"),
        (("backup", "all.tar", "--database", "redis://127.0.0.1:9"), "no backup of redis://127.0.0.1:9"),
    ):
        result = fingerpost("cells", *arguments)
        assert result.exit_code == 1
        assert complaint in result.stderr
        assert result.stderr.count("\n") == 1


def test_of_a_crafted_backup_nothing_is_restored(
    fingerpost: Fingerpost, write: object, database: DirectoryStore, tmp_path: Path
) -> None:
    assert fingerpost("cells", "import", "c", write()).exit_code == 0  # type: ignore[operator]
    assert fingerpost("cells", "retention", "c", "--max-fingerprints", "30").exit_code == 0
    assert fingerpost("cells", "backup", "all.tar").exit_code == 0
    database.remove_cell("c", None)
    with tarfile.open(tmp_path / "all.tar") as old:
        members = [(member, old.extractfile(member).read()) for member in old]  # type: ignore[union-attr]
    index = json.loads(members[-1][1])
    first, second = index["cells"][0]["versions"]
    for versions in ([], [second, first], [first, first], [first, {"number": 2}], "all"):
        index["cells"][0]["versions"] = versions
        data = json.dumps(index).encode()
        with tarfile.open(tmp_path / "crafted.tar", "w") as new:
            for member, content in members[:-1]:
                new.addfile(member, io.BytesIO(content))
            members[-1][0].size = len(data)
            new.addfile(members[-1][0], io.BytesIO(data))
        for option in ((), ("--force",), ("--dry-run",), ("--json",)):
            result = fingerpost("cells", "restore", "crafted.tar", *option)
            assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
            assert "crafted.tar: its index cannot be read: cells.0.versions" in result.stderr
    assert database.cells() == []


def test_a_backup_follows_links_and_replaces_no_device(fingerpost: Fingerpost, write: object, tmp_path: Path) -> None:
    assert fingerpost("cells", "import", "c", write()).exit_code == 0  # type: ignore[operator]
    (tmp_path / "link.tar").symlink_to("all.tar")
    os.mkfifo(tmp_path / "pipe.tar")
    assert fingerpost("cells", "backup", "link.tar").exit_code == 0
    assert (tmp_path / "link.tar").is_symlink()
    assert (tmp_path / "all.tar").is_file()
    refused = fingerpost("cells", "backup", "pipe.tar", "--force")
    assert (refused.exit_code, "it is not a regular file" in refused.stderr) == (1, True)
    assert (tmp_path / "pipe.tar").is_fifo()
