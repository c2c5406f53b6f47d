"""The directory store: files, locks, and writers killed at each step."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reference_db import (
    Cell,
    CorruptManifest,
    DirectoryStore,
    Manifest,
    StoreUnavailable,
    UnknownVersion,
    Update,
    append_fingerprints,
    read_contents,
    replace_cell,
    write_fingerprint_file,
)
from reference_db.update import Origin
from tests.reference_db.conftest import MakeFingerprints
from tests.reference_db.killed_writers import leftovers


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


# Makes many stores of one version each, and publishes a second version to each in a forked process. The process is
# killed just before one of its file system calls: the first in the first store, the second in the second, and so on.
DYING_IMPORTS = """
import os, signal, sys
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from reference_db import DirectoryStore, Origin, import_fingerprints, read_fingerprint_file

folder, files = Path(sys.argv[1]), [read_fingerprint_file(Path(path)) for path in sys.argv[2:]]
origin = Origin("ada", datetime(2026, 1, 2, tzinfo=UTC))
STEPS = {"os.mkdir", "os.rename", "os.link", "os.rmdir", "os.remove", "open"}

def dying_at(last):
    steps = 0
    def step(event, arguments):
        nonlocal steps
        if event in STEPS and (event != "open" or str(folder) in str(arguments[0])):
            steps += 1
            if steps == last:
                os.kill(os.getpid(), signal.SIGKILL)
    return step

for last in count(1):
    root = folder / f"{last:02d}"
    import_fingerprints(DirectoryStore(root), *files[0], {}, origin)
    pid = os.fork()
    if not pid:
        step, sync = dying_at(last), os.fsync
        os.fsync = lambda descriptor: (step("os.mkdir", ()), sync(descriptor))
        sys.addaudithook(step)
        import_fingerprints(DirectoryStore(root), *files[1], {}, origin)
        os._exit(0)
    if os.waitpid(pid, 0)[1] == 0:
        break
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def created(cell: Cell, make_fingerprints: MakeFingerprints, origin: Origin) -> Update:
    return replace_cell(None, cell, make_fingerprints(), origin)


@pytest.fixture
def following(created: Update, make_fingerprints: MakeFingerprints, origin: Origin) -> Update:
    return append_fingerprints(created.contents, make_fingerprints(3, 1), origin)


def _publish(store: DirectoryStore, update: Update) -> Manifest:
    store.publish(update.manifest, update.segments, update.manifest.parent)
    return update.manifest


def _folder(root: Path, manifest: Manifest) -> Path:
    return root / "cells" / manifest.cell.cell_id / "versions" / f"{manifest.number:010d}"


def test_the_folder_of_a_version_contains_all_its_files(
    store: DirectoryStore, root: Path, created: Update, following: Update
) -> None:
    for manifest in (_publish(store, created), _publish(store, following)):
        needed = {"manifest.json", manifest.digest} | {f"{one.digest}.safetensors" for one in manifest.segments}
        assert set(os.listdir(_folder(root, manifest))) == needed


def test_versions_share_one_file_of_a_segment(
    store: DirectoryStore, root: Path, created: Update, following: Update
) -> None:
    old, new = _folder(root, _publish(store, created)), _folder(root, _publish(store, following))
    (shared,) = (path.name for path in old.glob("*.safetensors"))
    assert (old / shared).samefile(new / shared)
    (old / shared).unlink()
    assert len(read_contents(store, following.manifest)) == 15


def test_a_segment_is_copied_where_it_cannot_be_linked(
    store: DirectoryStore, created: Update, following: Update, monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish(store, created)

    def too_many(*_: object) -> None:
        raise OSError("too many links")

    monkeypatch.setattr(os, "link", too_many)
    _publish(store, following)
    assert len(read_contents(store, following.manifest)) == 15


def test_a_segment_is_mapped_into_memory(store: DirectoryStore, created: Update) -> None:
    manifest = _publish(store, created)
    contents = read_contents(store, manifest)
    assert isinstance(store.get_segment(manifest.cell.cell_id, manifest.segments[0].digest), memoryview)
    assert not contents.segments[0].csi.flags.owndata
    assert not contents.segments[0].csi.flags.writeable


def test_a_writer_killed_at_any_step_leaves_the_old_version_or_the_new_one(
    cell: Cell, make_fingerprints: MakeFingerprints, tmp_path: Path, origin: Origin
) -> None:
    files = [tmp_path / "old.safetensors", tmp_path / "new.safetensors"]
    for seed, file in enumerate(files):
        write_fingerprint_file(file, cell, make_fingerprints(seed=seed))
    folder = tmp_path / "stores"
    command = [sys.executable, "-W", "error", "-c", DYING_IMPORTS, str(folder), *map(str, files)]
    single_threaded = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # it forks
    subprocess.run(command, env=single_threaded, check=True, timeout=120)

    newest = []
    for root in sorted(folder.iterdir()):
        number = len(os.listdir(root / "cells" / cell.cell_id / "versions"))  # before opening the store removes drafts
        newest.append(number)
        store = DirectoryStore(root)
        current = store.current(cell.cell_id)
        assert current is not None
        assert current.number == number
        assert len(read_contents(store, current)) == 12
        assert leftovers(str(root), store) == set()
        update = replace_cell(current, cell, make_fingerprints(5, 2), origin)  # no lock is left
        assert _publish(store, update) == store.current(cell.cell_id)
    assert newest == sorted(newest)
    assert set(newest) == {1, 2}
    assert len(newest) > 10


def test_opening_or_publishing_removes_the_drafts_of_a_killed_writer(
    store: DirectoryStore, root: Path, created: Update, following: Update
) -> None:
    _publish(store, created)
    for again in (lambda: DirectoryStore(root), lambda: _publish(store, following)):
        draft = root / "cells" / created.manifest.cell.cell_id / "drafts" / "dead"
        draft.mkdir(parents=True)
        (draft / "manifest.json").write_text("half")
        assert leftovers(str(root), store)
        again()
        assert leftovers(str(root), store) == set()


def test_opening_a_store_does_not_disturb_or_wait_for_a_writer(
    store: DirectoryStore, root: Path, created: Update
) -> None:
    _publish(store, created)
    home = root / "cells" / created.manifest.cell.cell_id
    draft = home / "drafts" / "living"
    draft.mkdir()
    with (home / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        DirectoryStore(root)
        assert draft.is_dir()
    DirectoryStore(root)
    assert not draft.is_dir()


def test_damage_to_a_version_is_detected(store: DirectoryStore, root: Path, created: Update, following: Update) -> None:
    _publish(store, created)
    manifest = _publish(store, following)
    cell_id, folder = manifest.cell.cell_id, _folder(root, manifest)
    document, name = folder / "manifest.json", folder / manifest.digest
    whole = document.read_bytes()
    document.write_bytes(whole.replace(b'"number":2', b'"number":3'))
    with pytest.raises(CorruptManifest, match="hashes to"):
        store.current(cell_id)
    document.unlink()
    with pytest.raises(CorruptManifest, match="manifest of version 2 is missing"):
        store.current(cell_id)
    document.write_bytes(whole)
    name.rename(folder / "elsewhere")
    with pytest.raises(CorruptManifest, match="digest files instead of one"):
        store.current(cell_id)
    (folder / "elsewhere").rename(name)
    other = _folder(root, created.manifest)
    document.write_bytes((other / "manifest.json").read_bytes())
    name.rename(folder / created.manifest.digest)
    with pytest.raises(CorruptManifest, match="manifest of another version"):
        store.current(cell_id)
    assert store.manifest(cell_id, 1) == created.manifest  # the previous version is intact


def test_a_truncated_segment_is_returned_unverified(store: DirectoryStore, root: Path, created: Update) -> None:
    manifest = _publish(store, created)
    (path,) = _folder(root, manifest).glob("*.safetensors")
    path.write_bytes(b"")
    assert bytes(store.get_segment(manifest.cell.cell_id, manifest.segments[0].digest)) == b""


def test_other_files_in_the_directory_are_ignored(store: DirectoryStore, root: Path, created: Update) -> None:
    manifest = _publish(store, created)
    versions = _folder(root, manifest).parent
    (versions / "notes").mkdir()
    (root / "cells" / ".hidden").mkdir()
    (root / "cells" / "never-published").mkdir()
    assert store.numbers(manifest.cell.cell_id) == [1]
    assert store.cells() == [manifest.cell.cell_id]


def test_no_cell_id_leads_outside_the_store(store: DirectoryStore, root: Path, created: Update) -> None:
    manifest = _publish(store, created)
    (root / "cells" / manifest.cell.cell_id).rename(root / "outside")
    with pytest.raises(UnknownVersion):
        store.manifest("../outside", 1)
    assert store.numbers("../outside") == []


def test_a_path_that_is_not_a_directory_is_unavailable(tmp_path: Path, created: Update) -> None:
    (tmp_path / "store").touch()
    with pytest.raises(StoreUnavailable):
        DirectoryStore(tmp_path / "store")
    (tmp_path / "store").unlink()
    store = DirectoryStore(tmp_path / "store")
    (tmp_path / "store").touch()
    for ask in (store.cells, lambda: _publish(store, created)):
        with pytest.raises(StoreUnavailable):
            ask()


def test_reading_a_store_creates_no_directory(root: Path, cell: Cell) -> None:
    store = DirectoryStore(root)
    assert store.cells() == []
    assert store.current(cell.cell_id) is None
    assert not root.exists()


def test_what_is_no_cell_among_the_cells_does_not_keep_the_store_from_opening(
    root: Path, cell: Cell, created: Update
) -> None:
    _publish(DirectoryStore(root), created)
    (root / "cells" / "README").write_text("a file")
    (root / "cells" / "loop").symlink_to("loop")
    assert cell.cell_id in DirectoryStore(root).cells()
