"""Backups of whole stores, and what a restore makes of them in a directory and in Redis."""

import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from reference_db import (
    Cell,
    DirectoryStore,
    Manifest,
    Origin,
    Retention,
    Store,
    append_fingerprints,
    delete_fingerprints,
    read_contents,
    replace_cell,
    roll_back,
    set_model_policy,
    set_retention,
)
from reference_db.backup import Backup, write_backup
from reference_db.errors import BadBackup, CellsExist, CorruptSegment, MissingSegment
from reference_db.restoring import Restored, restore_backup
from reference_db.stores.redis import RedisStore
from tests.redis_servers import RedisServer
from tests.reference_db.conftest import MakeFingerprints

OpenRedis = Callable[[str], RedisStore]

NOW = datetime(2026, 2, 1, tzinfo=UTC)


def quiet(_: str) -> None:
    pass


def _publish(store: Store, update: object) -> Manifest:
    store.publish(update.manifest, update.segments, update.manifest.parent)  # type: ignore[attr-defined]
    return update.manifest  # type: ignore[attr-defined, no-any-return]


@pytest.fixture
def filled(store: DirectoryStore, cell: Cell, make_fingerprints: MakeFingerprints, origin: Origin) -> DirectoryStore:
    """A cell with a history whose first version and one in the middle are gone, and another cell."""
    manifest = _publish(store, replace_cell(None, cell, make_fingerprints(), origin))
    manifest = _publish(store, append_fingerprints(read_contents(store, manifest), make_fingerprints(5, 1), origin))
    before = read_contents(store, manifest)
    manifest = _publish(store, delete_fingerprints(before, before.ids == before.ids[0], origin))
    manifest = _publish(store, set_retention(read_contents(store, manifest), Retention(max_fingerprints=99), origin))
    manifest = _publish(store, set_model_policy(read_contents(store, manifest), "mateformer", origin))
    contents = read_contents(store, store.manifest(cell.cell_id, 2))
    _publish(store, roll_back(manifest, contents, replace(origin, note="as before")))
    store.remove_versions(cell.cell_id, [1, 3])
    other = cell.model_copy(update={"cell_id": "florence-2"})
    _publish(store, replace_cell(None, other, make_fingerprints(seed=2), origin))
    return store


@pytest.fixture
def archive(filled: DirectoryStore, tmp_path: Path) -> Path:
    write_backup(filled, tmp_path / "backup.tar", report=quiet)
    return tmp_path / "backup.tar"


@pytest.fixture
def backup(archive: Path) -> Iterator[Backup]:
    opened = Backup.open(archive, quiet)
    yield opened
    opened.close()


def restore(backup: Backup, store: Store, *, force: bool = False, dry_run: bool = False) -> Restored:
    return restore_backup(backup, store, "ada", NOW, force=force, dry_run=dry_run, report=quiet)


def versions_of(store: Store) -> dict[str, list[tuple[int, str]]]:
    return {
        cell_id: [(number, store.manifest(cell_id, number).digest) for number in store.numbers(cell_id)]
        for cell_id in store.cells()
    }


def test_a_restore_into_redis_and_back_gives_the_same_versions(
    backup: Backup, filled: DirectoryStore, server: RedisServer, open_redis: OpenRedis, tmp_path: Path
) -> None:
    redis_store = open_redis(server.url)
    assert restore(backup, redis_store, dry_run=True) == Restored(2, 0, 0)
    assert redis_store.cells() == []
    assert restore(backup, redis_store) == Restored(2, 0, 0)
    assert versions_of(redis_store) == versions_of(filled)
    write_backup(redis_store, tmp_path / "again.tar", report=quiet)
    again, copy = Backup.open(tmp_path / "again.tar", quiet), DirectoryStore(tmp_path / "copy")
    restore(again, copy)
    again.close()
    assert versions_of(copy) == versions_of(filled)
    for cell_id in filled.cells():
        for number in filled.numbers(cell_id):
            one, other = (read_contents(store, store.manifest(cell_id, number)) for store in (filled, copy))
            assert (one.ids == other.ids).all()
    assert copy.current("florence-1").retention.max_fingerprints is None  # type: ignore[union-attr]
    assert copy.manifest("florence-1", 5).model == "mateformer"


def test_a_backup_of_current_versions_has_no_others(filled: DirectoryStore, tmp_path: Path) -> None:
    write_backup(filled, tmp_path / "current.tar", current_only=True, report=quiet)
    backup, copy = Backup.open(tmp_path / "current.tar", quiet), DirectoryStore(tmp_path / "copy")
    restore(backup, copy)
    backup.close()
    assert versions_of(copy) == {name: versions[-1:] for name, versions in versions_of(filled).items()}


def test_a_second_restore_does_nothing_and_an_interrupted_one_is_completed(
    backup: Backup, filled: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, publish, published = DirectoryStore(tmp_path / "copy"), DirectoryStore.publish, []

    def publish_twice(self: DirectoryStore, manifest: Manifest, *rest: object) -> None:
        published.append(manifest)
        if len(published) == 3:
            raise KeyboardInterrupt
        publish(self, manifest, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(DirectoryStore, "publish", publish_twice)
        with pytest.raises(KeyboardInterrupt):
            restore(backup, copy)
    assert copy.numbers("florence-1") == [2, 4]
    assert restore(backup, copy) == Restored(2, 0, 0)
    assert versions_of(copy) == versions_of(filled)
    assert restore(backup, copy) == Restored(0, 0, 2)


def test_a_cell_with_other_versions_is_overwritten_only_by_force_and_keeps_its_history(
    backup: Backup, filled: DirectoryStore, cell: Cell, make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    manifest = filled.current(cell.cell_id)
    assert manifest is not None
    changed = _publish(filled, append_fingerprints(read_contents(filled, manifest), make_fingerprints(3, 7), origin))
    before = versions_of(filled)
    with pytest.raises(CellsExist) as caught:
        restore(backup, filled)
    assert caught.value.reasons == ["cell florence-1 has other versions in the reference database"]
    assert restore(backup, filled, force=True, dry_run=True) == Restored(0, 1, 1)
    assert versions_of(filled) == before
    assert restore(backup, filled, force=True) == Restored(0, 1, 1)
    restored = filled.current(cell.cell_id)
    assert restored is not None
    assert (restored.number, restored.parent, restored.segments) == (8, changed.digest, manifest.segments)
    assert restored.change.note.startswith("restored from the backup of 20")
    assert versions_of(filled)[cell.cell_id][:-1] == before[cell.cell_id]


def test_a_version_takes_the_place_of_a_damaged_one_by_force_and_the_cell_never_disappears(
    backup: Backup,
    filled: DirectoryStore,
    server: RedisServer,
    open_redis: OpenRedis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stated = versions_of(filled)
    redis_store = open_redis(server.url)
    restore(backup, redis_store)
    with server.client() as client:
        client.hset("fingerpost:{florence-1}:manifests", "6", b"damaged")
    path = tmp_path / "store" / "cells" / "florence-1" / "versions" / "0000000006" / "manifest.json"
    path.write_bytes(path.read_bytes()[:-1])
    for store in (filled, redis_store):
        with pytest.raises(CellsExist):
            restore(backup, store)

        def never(*_: object) -> None:
            raise AssertionError("the cell would disappear")

        with monkeypatch.context() as patch:
            patch.setattr(type(store), "remove_cell", never)
            assert restore(backup, store, force=True) == Restored(0, 1, 1)
        after = versions_of(store)
        assert after["florence-1"][:-1] == stated["florence-1"][:-1]  # the damaged version is gone
        assert after["florence-2"] == stated["florence-2"]
        restored = store.current("florence-1")
        assert restored is not None
        assert (restored.number, restored.parent) == (7, stated["florence-1"][-1][1])
        whole = backup.manifest("florence-1", backup.index.cells[0].versions[-1])
        assert (restored.segments, restored.fingerprints) == (whole.segments, whole.fingerprints)
        assert len(read_contents(store, restored)) == whole.fingerprints
        assert store.remove_versions("florence-1", [2, 4, 5]).versions == (2, 4, 5)
    with server.client() as client:
        client.delete("fingerpost:{florence-1}:manifests")
    assert restore(backup, redis_store, force=True) == Restored(0, 1, 1)
    assert versions_of(redis_store) == stated


@pytest.mark.parametrize("newer", [False, True], ids=["current in the backup", "newer than the backup"])
@pytest.mark.parametrize("loss", ["changed", "cut", "gone"])
def test_lost_fingerprints_are_put_back_by_force_and_the_cell_never_disappears(
    backup: Backup,
    filled: DirectoryStore,
    server: RedisServer,
    open_redis: OpenRedis,
    make_fingerprints: MakeFingerprints,
    origin: Origin,
    loss: str,
    newer: bool,
) -> None:
    redis_store = open_redis(server.url)
    restore(backup, redis_store)
    for store in (filled, redis_store):
        current = store.current("florence-1")
        assert current is not None
        if newer:
            added = make_fingerprints(3, 7)
            current = _publish(store, append_fingerprints(read_contents(store, current), added, origin))
        digest = current.segments[0].digest
        whole = bytes(store.get_segment("florence-1", digest))
        damaged = {"changed": whole[:-1] + bytes([whole[-1] ^ 1]), "cut": whole[:-1], "gone": None}[loss]
        _spoil(store, server, digest, damaged)
        with pytest.raises((CorruptSegment, MissingSegment)):
            read_contents(store, current)
        if not newer:  # the manifests are the same, and only `force` reads fingerprints
            assert restore(backup, store) == Restored(0, 0, 2)
        assert restore(backup, store, force=True, dry_run=True) == Restored(0, 1, 1)
        assert restore(backup, store, force=True) == Restored(0, 1, 1)
        restored = store.current("florence-1")
        assert restored is not None
        assert (restored.number, restored.parent) == (current.number + 1, current.digest)
        for number in store.numbers("florence-1"):
            read_contents(store, store.manifest("florence-1", number))
        assert bytes(store.get_segment("florence-1", digest)) == whole
        assert restored.segments == backup.manifest("florence-1", backup.index.cells[0].versions[-1]).segments
        assert restore(backup, store, force=True) == Restored(0, 0, 2)
        assert store.current("florence-1") == restored


def _spoil(store: Store, server: RedisServer, digest: str, content: bytes | None) -> None:
    """Gives a segment of the cell `florence-1` other bytes in all versions, or none."""
    if isinstance(store, DirectoryStore):
        for number in store.numbers("florence-1"):
            path = store._folder("florence-1").version(number) / f"{digest}.safetensors"
            if path.exists():
                path.unlink()
                if content is not None:
                    path.write_bytes(content)
        return
    with server.client() as client:
        key = f"fingerpost:{{florence-1}}:segment:{digest}"
        if content is None:
            client.delete(key)
        else:
            client.set(key, content)


@pytest.mark.parametrize("others", ["another version", "its digest"])
def test_a_cell_with_more_damage_is_restored_whole_by_force(
    backup: Backup, filled: DirectoryStore, tmp_path: Path, others: str
) -> None:
    stated = versions_of(filled)
    versions = tmp_path / "store" / "cells" / "florence-1" / "versions"
    for number in (6, 4) if others == "another version" else (6,):
        path = versions / f"{number:010d}" / "manifest.json"
        path.write_bytes(path.read_bytes()[:-1])
    if others == "its digest":
        (versions / "0000000006" / stated["florence-1"][-1][1]).unlink()
    assert restore(backup, filled, force=True) == Restored(0, 1, 1)
    assert versions_of(filled) == stated


def test_damaged_versions_are_left_out_of_a_backup_and_named(filled: DirectoryStore, tmp_path: Path) -> None:
    folder = tmp_path / "store" / "cells" / "florence-1" / "versions" / "0000000006"
    manifest = folder / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-1])
    index = write_backup(filled, tmp_path / "damaged.tar", report=quiet)
    assert [said.partition(":")[0] for said in index.left_out] == ["cell florence-1, version 6"]
    assert [version.number for version in index.cells[0].versions] == [2, 4, 5]


def test_half_written_and_damaged_archives_are_refused(archive: Path, filled: DirectoryStore, tmp_path: Path) -> None:
    whole = archive.read_bytes()
    broken = tmp_path / "broken.tar"
    halves = [whole[:end] for end in (0, 1000, len(whole) // 2, whole.rindex(b"index.json"))]
    for content in (*halves, b"not a tar" * 99):
        broken.write_bytes(content)
        with pytest.raises(BadBackup, match=r"broken\.tar"):
            Backup.open(broken, quiet)
    for place in (whole.index(b'"dtype":"F16"') + 900, whole.index(b'{"cell":') + 5):
        broken.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(BadBackup, match="damaged"):
            Backup.open(broken, quiet)


def with_index(archive: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of a backup with another index. `change` changes the JSON, or returns bytes to write instead."""
    crafted = archive.with_name("crafted.tar")
    with tarfile.open(archive) as old, tarfile.open(crafted, "w") as new:
        for member in old:
            data = old.extractfile(member).read()  # type: ignore[union-attr]
            if member.name == "index.json":
                index = json.loads(data)
                changed = change(index)
                data = changed if isinstance(changed, bytes) else json.dumps(index).encode()
                member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    return crafted


CRAFTED: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda index: index["cells"][0].update(versions=[]), "cells.0.versions: .* at least 1 item"),
    (lambda index: index["cells"][0]["versions"].reverse(), "the numbers of versions must ascend"),
    (lambda index: index["cells"][0]["versions"].append(index["cells"][0]["versions"][-1]), "must ascend"),
    (lambda index: index["cells"].append(index["cells"][0]), "cell florence-1 is listed twice"),
    (lambda index: index["cells"][0]["versions"][0].update(number=0), "number: .* greater than or equal to 1"),
    (lambda index: index["cells"][0]["versions"][-1].update(number=10**10), "less than or equal to 1000000000"),
    (lambda index: index["cells"][0]["versions"][-1].update(number="six"), "valid integer"),
    (lambda index: index["cells"][0]["versions"][-1].update(number=7), "it lacks cells/florence-1/versions/7/"),
    (lambda index: index["cells"][0]["versions"][0].pop("digest"), "cells.0.versions.0.digest: Field required"),
    (lambda index: index["cells"][0].update(cell_id="../florence-1"), "cells.0.cell_id: "),
    (lambda index: index["cells"][1].update(cell_id="florence-3"), "it lacks cells/florence-3/"),
    (lambda index: index.update(cells={}), "cells: Input should be a valid array"),
    (lambda index: index.update(cells=None, made_at="noon"), "and 1 more fault$"),
    (lambda index: index.pop("made_at"), "made_at: Field required"),
    (lambda index: index.update(schema_version=2, nodes=[]), "schema_version: it is 2; this release reads 1"),
    (lambda index: index.clear(), "made_at: Field required, and 1 more fault"),
    (lambda _: b"[1]", "its index cannot be read: .* object"),
    (lambda _: b"", "its index cannot be read: Invalid JSON"),
    (lambda _: b"[" * 100_000, "its index cannot be read: Invalid JSON"),
    (lambda _: b"\xff\xfe{}", "its index cannot be read: Invalid JSON"),
]


def test_a_crafted_index_is_refused_with_its_fault(archive: Path) -> None:
    for change, reason in CRAFTED:
        with pytest.raises(BadBackup, match=reason) as caught:
            Backup.open(with_index(archive, change), quiet)
        assert str(caught.value).startswith("crafted.tar: ")
        assert "\n" not in str(caught.value)


def test_members_of_impossible_sizes_are_refused(archive: Path) -> None:
    whole = archive.read_bytes()
    sizes = (b"\x80" + b"\x7f" * 11, b"\x80\0\0\0" + b"\x7f" * 8, b"\xff" * 12, b"\xff" * 10 + b"\xfe\0")
    for kind in (tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.SYMTYPE):
        for size in sizes:
            content = bytearray(whole)
            content[124:136], content[156:157], content[148:156] = size, kind, b" " * 8
            content[148:156] = b"%06o\0 " % sum(content[:512])
            archive.write_bytes(content)
            with pytest.raises(BadBackup, match=r"backup\.tar"):
                Backup.open(archive, quiet)


def test_a_backup_that_fails_leaves_what_was_there(
    filled: DirectoryStore, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = archive.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(DirectoryStore, "get_segment", fail)
    with pytest.raises(OSError, match="disk full"):
        write_backup(filled, archive, report=quiet)
    assert archive.read_bytes() == before
    assert [path.name for path in archive.parent.iterdir() if path.name.endswith(".tmp")] == []
    shutil.rmtree(archive.parent / "store")
