import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reference_db import (
    Cell,
    CorruptManifest,
    DirectoryStore,
    Fingerprints,
    Manifest,
    MissingSegment,
    ReferenceDatabase,
    Segment,
    SegmentReference,
    VersionConflict,
    import_fingerprints,
    write_fingerprint_file,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)

# Imports a file into a store and dies without warning when it is about to rename its n-th file into place.
DYING_IMPORT = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from reference_db import DirectoryStore, import_fingerprints, read_fingerprint_file

root, file, last = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
renames = 0

def die(event, arguments):
    global renames
    if event == "os.rename":
        renames += 1
        if renames == last:
            os.kill(os.getpid(), signal.SIGKILL)

cell, fingerprints = read_fingerprint_file(file)
sys.addaudithook(die)
import_fingerprints(DirectoryStore(root), cell, fingerprints, {}, "", datetime.now(UTC))
"""


def _manifest(cell: Cell, digest: str, note: str) -> Manifest:
    segments = (SegmentReference(digest=digest, count=12),)
    return Manifest(cell=cell, number=1, parent=None, segments=segments, quality={}, created_at=NOW, note=note)


def test_an_empty_store_has_no_cells(store: DirectoryStore, cell: Cell) -> None:
    assert store.cells() == []
    assert store.current(cell.cell_id) is None


def test_what_was_published_is_current(
    store: DirectoryStore, cell: Cell, make_fingerprints: Callable[..., Fingerprints]
) -> None:
    manifest = import_fingerprints(store, cell, make_fingerprints(), {}, "", NOW)
    assert store.current(cell.cell_id) == manifest
    assert store.cells() == [cell.cell_id]


def test_a_segment_comes_back_as_it_was_put(store: DirectoryStore) -> None:
    digest = store.put_segment(b"bytes")
    assert store.put_segment(b"bytes") == digest
    assert store.get_segment(digest) == b"bytes"


def test_putting_a_segment_again_heals_it(store: DirectoryStore, tmp_path: Path) -> None:
    digest = store.put_segment(b"bytes")
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(b"bytez")
    store.put_segment(b"bytes")
    assert store.get_segment(digest) == b"bytes"


def test_a_segment_never_put_is_missing(store: DirectoryStore, cell: Cell) -> None:
    with pytest.raises(MissingSegment):
        store.get_segment("0" * 64)
    with pytest.raises(MissingSegment):
        store.publish(_manifest(cell, "0" * 64, ""), expected=None)
    assert store.cells() == []


def test_of_two_writers_the_second_is_told(store: DirectoryStore, cell: Cell) -> None:
    digest = store.put_segment(b"bytes")
    first, second = _manifest(cell, digest, "first"), _manifest(cell, digest, "second")
    store.publish(first, expected=None)
    with pytest.raises(VersionConflict) as caught:
        store.publish(second, expected=None)
    assert caught.value.current == first.digest
    assert store.current(cell.cell_id) == first
    store.publish(second, expected=first.digest)
    assert store.current(cell.cell_id) == second


def test_of_many_writers_at_once_exactly_one_wins(store: DirectoryStore, cell: Cell) -> None:
    digest = store.put_segment(b"bytes")
    manifests = [_manifest(cell, digest, str(writer)) for writer in range(16)]

    def publish(manifest: Manifest) -> Manifest | None:
        try:
            store.publish(manifest, expected=None)
        except VersionConflict:
            return None
        return manifest

    with ThreadPoolExecutor(16) as pool:
        winners = [winner for winner in pool.map(publish, manifests) if winner]
    assert winners == [store.current(cell.cell_id)]


@pytest.mark.parametrize("rename", [1, 2, 3], ids=["segment", "manifest", "pointer"])
def test_a_writer_killed_before_the_pointer_moved_leaves_the_old_version(
    store: DirectoryStore,
    cell: Cell,
    make_fingerprints: Callable[..., Fingerprints],
    tmp_path: Path,
    rename: int,
) -> None:
    old = import_fingerprints(store, cell, make_fingerprints(), {}, "old", NOW)
    file = tmp_path / "new.safetensors"
    write_fingerprint_file(file, cell, make_fingerprints(seed=1))
    command = [sys.executable, "-c", DYING_IMPORT, str(tmp_path / "store"), str(file), str(rename)]

    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL
    assert store.current(cell.cell_id) == old
    assert len(ReferenceDatabase(store).cell(cell.cell_id)) == 12

    # Nothing is left locked: the same writer, left alone, succeeds.
    subprocess.run([*command[:-1], "0"], check=True, timeout=60)
    new = store.current(cell.cell_id)
    assert new is not None
    assert (new.number, new.parent) == (2, old.digest)
    segment = new.segments[0].digest
    assert len(Segment.from_bytes(store.get_segment(segment), segment)) == 12


@pytest.mark.parametrize("cell_id", ["../elsewhere", "..", ".", "", "a/b", "a\x00b", "florence-1\n"])
def test_a_name_that_no_cell_can_have_is_simply_unknown(store: DirectoryStore, cell_id: str) -> None:
    assert store.current(cell_id) is None


def test_a_damaged_pointer_or_manifest_is_noticed(
    store: DirectoryStore, cell: Cell, make_fingerprints: Callable[..., Fingerprints], tmp_path: Path
) -> None:
    manifest = import_fingerprints(store, cell, make_fingerprints(), {}, "", NOW)
    home = tmp_path / "store" / "cells" / cell.cell_id
    document = home / "manifests" / f"{manifest.digest}.json"
    document.write_bytes(document.read_bytes().replace(b'"number":1', b'"number":2'))
    with pytest.raises(CorruptManifest, match="hashes to"):
        store.current(cell.cell_id)
    document.unlink()
    with pytest.raises(CorruptManifest, match="missing"):
        store.current(cell.cell_id)
    (home / "current").write_text("../../secret")
    with pytest.raises(CorruptManifest, match="pointer"):
        store.current(cell.cell_id)
