"""The store protocol, tested with a directory, a Redis server and a Redis cluster."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from reference_db import (
    Cell,
    Contents,
    CorruptSegment,
    Manifest,
    MissingSegment,
    Origin,
    Segment,
    SegmentReference,
    Store,
    StoreUnavailable,
    UnknownVersion,
    Update,
    VersionConflict,
    append_fingerprints,
    delete_fingerprints,
    import_fingerprints,
    open_store,
    read_contents,
    replace_cell,
    roll_back,
)
from tests.damage import damage
from tests.redis_servers import empty, nodes_of
from tests.reference_db.conftest import MakeFingerprints
from tests.reference_db.killed_writers import leftovers
from tests.reference_db.stores.conftest import open_at


@pytest.fixture
def created(cell: Cell, make_fingerprints: MakeFingerprints, origin: Origin) -> Update:
    return replace_cell(None, cell, make_fingerprints(), origin)


def _publish(store: Store, update: Update) -> Manifest:
    store.publish(update.manifest, update.segments, update.manifest.parent)
    return update.manifest


def _written_by(author: str, update: Update) -> Update:
    change = update.manifest.change.model_copy(update={"author": author})
    manifest = update.manifest.with_fields(change=change)
    return replace(update, contents=Contents.of(manifest, update.contents.segments))


def _damage_segments(store: Store, address: str, request: pytest.FixtureRequest) -> None:
    """Flips the last byte of each segment."""
    if "://" not in address:
        for path in Path(address).rglob("*.safetensors"):
            whole = path.read_bytes()
            damage(path, whole[:-1] + bytes([whole[-1] ^ 1]))
        return
    cluster = "+cluster" in address
    for node in nodes_of(request.getfixturevalue("redis_cluster" if cluster else "redis_server")):
        with node.client() as client:
            for key in client.scan_iter("*:segment:*"):
                last = client.getrange(key, -1, -1)
                client.setrange(key, client.strlen(key) - 1, bytes([last[0] ^ 1]))


def test_an_empty_store_has_no_cells(store: Store, cell: Cell) -> None:
    assert store.cells() == []
    assert store.current(cell.cell_id) is None
    assert store.newest(cell.cell_id) is None
    assert store.numbers(cell.cell_id) == []
    with pytest.raises(UnknownVersion):
        store.manifest(cell.cell_id, 1)
    with pytest.raises(MissingSegment):
        store.get_segment(cell.cell_id, "0" * 64)


def test_a_published_version_is_current_for_every_reader(store: Store, address: str, created: Update) -> None:
    manifest = _publish(store, created)
    other = open_at(address)
    for one in (store, other):
        assert one.current(manifest.cell.cell_id) == manifest
        assert one.newest(manifest.cell.cell_id) == manifest.digest
        assert one.cells() == [manifest.cell.cell_id]
        np.testing.assert_array_equal(read_contents(one, manifest).ids, created.contents.ids)
    other.close()
    assert leftovers(address, store) == set()


def test_cells_are_sorted_and_do_not_mix(store: Store, cell: Cell, origin: Origin) -> None:
    names = [f"{city}-{number}" for city in ("munich", "Florence", "a.b_c") for number in range(10)]
    for name in names:
        _publish(store, replace_cell(None, cell.model_copy(update={"cell_id": name}), None, origin))
    assert store.cells() == sorted(names)
    assert {store.current(name).cell.cell_id for name in names} == set(names)  # type: ignore[union-attr]


def test_a_cell_without_fingerprints_is_a_cell(store: Store, cell: Cell, origin: Origin) -> None:
    manifest = _publish(store, replace_cell(None, cell, None, origin))
    assert len(read_contents(store, manifest)) == 0
    assert store.cells() == [cell.cell_id]


def test_every_version_that_was_published_can_be_read(
    store: Store, address: str, created: Update, make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    cell_id = created.manifest.cell.cell_id
    updates = [created]
    for seed in range(1, 4):
        updates.append(append_fingerprints(updates[-1].contents, make_fingerprints(3, seed), origin))
    updates.append(delete_fingerprints(updates[-1].contents, np.arange(21) < 5, origin))
    updates.append(replace_cell(updates[-1].manifest, created.manifest.cell, make_fingerprints(4, 9), origin))
    for update in updates:
        _publish(store, update)
    assert store.numbers(cell_id) == [1, 2, 3, 4, 5, 6]
    for update in updates:
        manifest = store.manifest(cell_id, update.manifest.number)
        assert manifest == update.manifest
        np.testing.assert_array_equal(read_contents(store, manifest).ids, update.contents.ids)
    for number in (0, 7, -1):
        with pytest.raises(UnknownVersion):
            store.manifest(cell_id, number)
    assert leftovers(address, store) == set()


def test_a_rollback_needs_no_bytes_for_segments_of_an_old_version(
    store: Store, address: str, created: Update, make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    _publish(store, created)
    other = _publish(store, replace_cell(created.manifest, created.manifest.cell, make_fingerprints(5, 1), origin))
    back = roll_back(other, created.contents, origin)
    assert back.segments == ()
    manifest = _publish(store, back)
    assert (manifest.number, manifest.segments) == (3, created.manifest.segments)
    np.testing.assert_array_equal(read_contents(store, manifest).ids, created.contents.ids)
    assert leftovers(address, store) == set()


def test_the_second_of_two_writers_gets_a_conflict(store: Store, address: str, created: Update) -> None:
    first = _publish(store, created)
    second = _written_by("bob", created)
    with pytest.raises(VersionConflict) as caught:
        _publish(store, second)
    assert (caught.value.expected, caught.value.current) == (None, first.digest)
    with pytest.raises(VersionConflict):
        _publish(store, created)  # publishing the same version again is a conflict too
    assert store.current(first.cell.cell_id) == first
    assert store.numbers(first.cell.cell_id) == [1]
    assert leftovers(address, store) == set()


def test_expecting_a_version_that_does_not_exist_is_a_conflict(store: Store, created: Update) -> None:
    with pytest.raises(VersionConflict) as caught:
        store.publish(created.manifest, created.segments, "0" * 64)
    assert caught.value.current is None
    assert store.cells() == []


def test_of_many_writers_at_once_exactly_one_wins(store: Store, address: str, created: Update) -> None:
    updates = [_written_by(str(writer), created) for writer in range(16)]

    def publish(update: Update) -> Manifest | None:
        try:
            return _publish(store, update)
        except VersionConflict:
            return None

    with ThreadPoolExecutor(16) as pool:
        winners = [winner for winner in pool.map(publish, updates) if winner]
    assert winners == [store.current(created.manifest.cell.cell_id)]
    assert leftovers(address, store) == set()


def test_a_version_with_a_missing_segment_is_refused_and_changes_nothing(
    store: Store, address: str, created: Update, make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    with pytest.raises(MissingSegment):
        store.publish(created.manifest, [], None)
    assert store.cells() == []
    _publish(store, created)
    following = append_fingerprints(created.contents, make_fingerprints(3, 1), origin)
    absent = (*following.manifest.segments, SegmentReference(digest="0" * 64, count=1))
    with pytest.raises(MissingSegment) as caught:
        store.publish(following.manifest.with_fields(segments=absent), following.segments, created.manifest.digest)
    assert caught.value.digest == "0" * 64
    assert store.current(created.manifest.cell.cell_id) == created.manifest
    assert store.numbers(created.manifest.cell.cell_id) == [1]
    assert leftovers(address, store) == set()


def test_a_number_that_is_not_above_the_current_one_is_refused(store: Store, created: Update) -> None:
    """A restored history begins with any number, and may have gaps."""
    second = created.manifest.with_fields(number=2)
    store.publish(second, created.segments, None)
    for number in (1, 2):
        with pytest.raises(ValueError, match=f"version {number} cannot follow version 2"):
            store.publish(created.manifest.with_fields(number=number), created.segments, second.digest)
    store.publish(created.manifest.with_fields(number=4, parent=second.digest), (), second.digest)
    assert store.numbers(created.manifest.cell.cell_id) == [2, 4]


def test_segments_that_the_manifest_does_not_list_are_not_stored(store: Store, address: str, created: Update) -> None:
    store.publish(created.manifest, [*created.segments, b"stray"], None)
    assert leftovers(address, store) == set()


def test_a_damaged_segment_is_returned_and_fails_its_digest(
    store: Store, address: str, created: Update, request: pytest.FixtureRequest
) -> None:
    manifest = _publish(store, created)
    _damage_segments(store, address, request)
    digest = manifest.segments[0].digest
    data = store.get_segment(manifest.cell.cell_id, digest)
    assert len(data) == len(created.segments[0])
    with pytest.raises(CorruptSegment, match="hashes to"):
        Segment.from_buffer(data, digest)
    with pytest.raises(CorruptSegment):
        read_contents(store, manifest)


def test_publishing_the_same_fingerprints_again_repairs_a_damaged_segment(
    store: Store, address: str, created: Update, request: pytest.FixtureRequest, make_fingerprints: MakeFingerprints
) -> None:
    first = _publish(store, created)
    _damage_segments(store, address, request)
    second = import_fingerprints(store, first.cell, make_fingerprints(), {}, Origin("bob", first.created_at))
    assert second.segments == first.segments
    np.testing.assert_array_equal(read_contents(store, second).ids, created.contents.ids)


def test_an_invalid_cell_id_is_an_unknown_cell(store: Store, created: Update) -> None:
    manifest = _publish(store, created)
    for cell_id in ("../elsewhere", "..", ".", "", "a/b", "a\x00b", "\udc80", "a}b", "florence-1\n"):
        assert store.current(cell_id) is None
        assert store.newest(cell_id) is None
        assert store.numbers(cell_id) == []
        with pytest.raises(UnknownVersion):
            store.manifest(cell_id, 1)
        with pytest.raises(MissingSegment):
            store.get_segment(cell_id, manifest.segments[0].digest)


def test_a_version_lost_and_published_again_with_other_contents_is_another_one(
    store: Store, address: str, request: pytest.FixtureRequest, cell: Cell, make_fingerprints: MakeFingerprints
) -> None:
    lost = _publish(store, replace_cell(None, cell, make_fingerprints(seed=1), Origin("alice", datetime.now(UTC))))
    assert store.newest(cell.cell_id) == lost.digest
    forget(address, request)
    assert store.newest(cell.cell_id) is None
    again = _publish(store, replace_cell(None, cell, make_fingerprints(seed=2), Origin("bob", datetime.now(UTC))))
    assert again.number == lost.number
    assert store.newest(cell.cell_id) == again.digest != lost.digest


def forget(address: str, request: pytest.FixtureRequest) -> None:
    """Loses all versions, as a failover to an empty replica or the loss of a disk does."""
    if "://" not in address:
        shutil.rmtree(Path(address) / "cells")
    else:
        empty(request.getfixturevalue("redis_cluster" if "+cluster" in address else "redis_server"))


def test_an_invalid_digest_is_a_missing_segment(store: Store, created: Update) -> None:
    manifest = _publish(store, created)
    for digest in ("", "../manifest", "A" * 64, "\udc80"):
        with pytest.raises(MissingSegment):
            store.get_segment(manifest.cell.cell_id, digest)


def test_readers_see_whole_versions_while_a_writer_publishes(
    store: Store, created: Update, make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    cell_id = created.manifest.cell.cell_id
    updates = [created]
    for seed in range(1, 20):
        updates.append(replace_cell(updates[-1].manifest, created.manifest.cell, make_fingerprints(4, seed), origin))
    should_be = {update.manifest.number: set(update.contents.ids.tolist()) for update in updates}
    _publish(store, created)

    def read_until_the_last() -> list[int]:
        seen = []
        while not seen or seen[-1] < len(updates):
            manifest = store.current(cell_id)
            assert manifest is not None
            assert set(read_contents(store, manifest).ids.tolist()) == should_be[manifest.number]
            seen.append(manifest.number)
        return seen

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read_until_the_last) for _ in range(2)]
        for update in updates[1:]:
            _publish(store, update)
        for reader in readers:
            assert reader.result(60) == sorted(reader.result())


def test_writers_killed_at_random_moments_lose_no_version_and_leave_no_files(address: str) -> None:
    """See `killed_writers`; run it with `--kills 200` for a longer test."""
    kills = "5" if "+cluster" in address else "15"
    command = [sys.executable, "-W", "error", "-m", "tests.reference_db.killed_writers", "--kills", kills, address]
    single_threaded = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # it forks
    done = subprocess.run(command, env=single_threaded, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_an_unreachable_store_raises_store_unavailable(created: Update, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for address in (str(tmp_path / "file"), "redis://127.0.0.1:1", "redis+cluster://127.0.0.1:1,127.0.0.1:2"):
        with pytest.raises(StoreUnavailable):
            _publish(open_store(address), created)
