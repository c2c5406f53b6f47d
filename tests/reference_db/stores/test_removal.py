"""Removing versions and cells, with a directory, a Redis server and a Redis cluster."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from reference_db import (
    Contents,
    CorruptManifest,
    DirectoryStore,
    HistoryPolicy,
    Manifest,
    MissingSegment,
    Origin,
    Removal,
    Store,
    StoreFull,
    UnknownVersion,
    Update,
    VersionConflict,
    append_fingerprints,
    collect_history,
    forget_fingerprints,
    read_contents,
    replace_cell,
    roll_back,
    write_fingerprint_file,
)
from reference_db.stores.redis import RedisStore
from tests.redis_servers import PATIENCE_S, RedisServer, empty, keys_of
from tests.reference_db.conftest import MakeFingerprints
from tests.reference_db.killed_writers import leftovers
from tests.reference_db.stores.conftest import open_at


def _publish(store: Store, update: Update) -> Manifest:
    store.publish(update.manifest, update.segments, update.manifest.parent, update.without)
    return update.manifest


@pytest.fixture
def replaced(store: Store, versions: list[Update], make_fingerprints: MakeFingerprints, origin: Origin) -> list[Update]:
    """Five versions in the store: three of one growing survey, and two whose fingerprints are all new."""
    updates = list(versions)
    for seed in (11, 12):
        before = updates[-1].manifest
        updates.append(replace_cell(before, before.cell, make_fingerprints(4, seed), origin))
    for update in updates:
        _publish(store, update)
    return updates


def _size(update: Update) -> int:
    return sum(len(segment.to_bytes()) for segment in update.contents.segments)


def test_removed_versions_are_gone_with_the_segments_that_no_other_version_lists(
    store: Store, address: str, replaced: list[Update]
) -> None:
    cell_id = replaced[0].manifest.cell.cell_id
    expected = store.remove_versions(cell_id, [1, 4], dry_run=True)
    assert store.numbers(cell_id) == [1, 2, 3, 4, 5]
    removal = store.remove_versions(cell_id, [1, 4])
    assert removal == expected
    assert (removal.versions, removal.segments) == ((1, 4), 1)  # versions 2 and 3 list the segment of version 1
    manifests = sum(len(replaced[row].manifest.to_bytes()) for row in (0, 3))
    assert manifests + _size(replaced[3]) <= removal.bytes <= manifests + _size(replaced[3]) + 200
    assert store.numbers(cell_id) == [2, 3, 5]
    assert leftovers(address, store) == set()
    for update in (replaced[row] for row in (1, 2, 4)):
        np.testing.assert_array_equal(read_contents(store, update.manifest).ids, update.contents.ids)
    for update in (replaced[0], replaced[3]):
        with pytest.raises(UnknownVersion):
            store.manifest(cell_id, update.manifest.number)
    with pytest.raises(UnknownVersion):  # not a damaged cell
        read_contents(store, replaced[3].manifest)
    assert store.remove_versions(cell_id, [2, 3]).segments == 3
    assert leftovers(address, store) == set()


def test_the_current_version_and_unknown_numbers_are_never_removed(
    store: Store, address: str, replaced: list[Update]
) -> None:
    cell_id = replaced[0].manifest.cell.cell_id
    assert store.remove_versions(cell_id, [5, 6, 99, 0]) == Removal()
    assert store.remove_versions(cell_id, range(100)).versions == (1, 2, 3, 4)
    assert store.current(cell_id) == replaced[-1].manifest
    assert store.remove_versions("elsewhere", [1]) == Removal()
    assert store.remove_versions("../elsewhere", [1]) == Removal()
    assert leftovers(address, store) == set()


def test_a_reader_that_holds_a_removed_version_keeps_it(store: Store, replaced: list[Update]) -> None:
    held = read_contents(store, store.manifest(replaced[0].manifest.cell.cell_id, 4))
    store.remove_versions(held.manifest.cell.cell_id, [4])
    np.testing.assert_array_equal(held.segments[0].csi, replaced[3].contents.segments[0].csi)
    np.testing.assert_array_equal(held.positions, replaced[3].contents.positions)


def test_a_rollback_to_a_version_removed_meanwhile_changes_nothing(
    store: Store, address: str, replaced: list[Update], origin: Origin
) -> None:
    current = replaced[-1].manifest
    back = roll_back(current, replaced[0].contents, origin)
    store.remove_versions(current.cell.cell_id, [1, 2, 3])
    with pytest.raises(MissingSegment):
        _publish(store, back)
    assert store.current(current.cell.cell_id) == current
    assert leftovers(address, store) == set()


def test_publishing_without_old_versions_removes_them_in_the_same_step(
    store: Store, address: str, replaced: list[Update], origin: Origin
) -> None:
    before = replaced[-1].contents
    doomed = np.arange(len(before)) == 1
    update = forget_fingerprints(before, doomed, [1, 2, 5], origin)
    manifest = _publish(store, update)
    assert store.numbers(manifest.cell.cell_id) == [3, 4, 6]
    assert leftovers(address, store) == set()
    np.testing.assert_array_equal(read_contents(store, manifest).ids, before.ids[~doomed])
    np.testing.assert_array_equal(read_contents(store, replaced[2].manifest).ids, replaced[2].contents.ids)
    with pytest.raises(VersionConflict):
        _publish(store, update)


def test_versions_stay_if_the_publication_that_removes_them_conflicts(
    store: Store, replaced: list[Update], origin: Origin
) -> None:
    late = forget_fingerprints(replaced[3].contents, np.arange(4) == 1, [1, 2, 3, 4], origin)
    with pytest.raises(VersionConflict):
        _publish(store, late)
    assert store.numbers(late.manifest.cell.cell_id) == [1, 2, 3, 4, 5]


def test_a_removed_cell_is_gone_and_begins_again_with_number_1(
    store: Store, address: str, replaced: list[Update], make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    cell, last = replaced[0].manifest.cell, replaced[-1].manifest
    with pytest.raises(VersionConflict) as caught:
        store.remove_cell(cell.cell_id, replaced[0].manifest.digest)
    assert caught.value.current == last.digest
    assert not store.is_removed(cell.cell_id)
    removal = store.remove_cell(cell.cell_id, last.digest)
    assert (removal.versions, removal.segments) == ((1, 2, 3, 4, 5), 5)
    assert removal.bytes > sum(map(_size, replaced[2:]))
    other = open_at(address)
    for one in (store, other):
        assert (one.current(cell.cell_id), one.cells(), one.numbers(cell.cell_id)) == (None, [], [])
        assert one.is_removed(cell.cell_id)
    other.close()
    assert not store.is_removed("elsewhere")
    assert not store.is_removed("../elsewhere")
    assert store.remove_cell(cell.cell_id, None) == Removal()
    with pytest.raises(UnknownVersion):
        read_contents(store, last)
    with pytest.raises(VersionConflict):
        _publish(store, append_fingerprints(replaced[-1].contents, make_fingerprints(2, 20), origin))
    created = _publish(store, replace_cell(None, cell, make_fingerprints(4, 21), origin))
    assert (created.number, store.cells(), store.is_removed(cell.cell_id)) == (1, [cell.cell_id], False)
    assert leftovers(address, store) == set()


def test_a_removed_cell_leaves_no_fingerprint_in_the_store(
    store: Store, address: str, replaced: list[Update], request: pytest.FixtureRequest
) -> None:
    cell_id = replaced[0].manifest.cell.cell_id
    store.remove_cell(cell_id, None)
    if "://" in address:
        servers = request.getfixturevalue("redis_cluster" if "+cluster" in address else "redis_server")
        left = {f"fingerpost:{{{cell_id}}}:tombstone", "fingerpost:cells", "fingerpost:versions"}
        assert keys_of(servers) == left
    else:
        home = Path(address) / "cells" / cell_id
        assert {path.name for path in home.rglob("*")} == {"lock", "tombstone"}


def test_readers_see_whole_versions_while_old_ones_are_removed(
    store: Store, address: str, versions: list[Update], make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    cell = versions[0].manifest.cell
    updates = [versions[0]]
    for seed in range(1, 30):
        updates.append(append_fingerprints(updates[-1].contents, make_fingerprints(2, seed + 50), origin))
    should_be = {update.manifest.number: set(update.contents.ids.tolist()) for update in updates}
    _publish(store, updates[0])

    def read_until_the_last() -> int:
        seen = 0
        while seen < len(updates):
            manifest = store.current(cell.cell_id)
            assert manifest is not None
            try:
                contents = read_contents(store, manifest)
            except UnknownVersion:
                continue
            assert set(contents.ids.tolist()) == should_be[manifest.number]
            seen = manifest.number
        return seen

    def collect_until_the_last() -> None:
        other = open_at(address)
        while (newest := other.numbers(cell.cell_id)[-1]) < len(updates):
            other.remove_versions(cell.cell_id, range(newest))
        other.remove_versions(cell.cell_id, range(newest))
        other.close()

    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(read_until_the_last), pool.submit(read_until_the_last)]
        collectors = [pool.submit(collect_until_the_last) for _ in range(2)]
        for update in updates[1:]:
            _publish(store, update)
        assert [one.result(60) for one in work] == [len(updates)] * 2
        assert [one.result(60) for one in collectors] == [None] * 2
    assert store.numbers(cell.cell_id) == [len(updates)]
    assert leftovers(address, store) == set()


def test_processes_killed_while_they_remove_leave_whole_versions(address: str) -> None:
    """See `killed_collectors`; run it with `--kills 200` for a longer test."""
    kills = "5" if "+cluster" in address else "15"
    command = [sys.executable, "-W", "error", "-m", "tests.reference_db.killed_collectors", "--kills", kills, address]
    single_threaded = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # it forks
    done = subprocess.run(command, env=single_threaded, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_removing_works_in_a_full_redis(
    redis_server: RedisServer, versions: list[Update], make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    empty(redis_server)
    store = RedisStore(redis_server.url, timeout_s=PATIENCE_S)
    cell_id = versions[0].manifest.cell.cell_id
    for update in versions:
        _publish(store, update)
    with redis_server.client() as client:
        client.config_set("maxmemory", 1)
        try:
            with pytest.raises(StoreFull):
                _publish(store, append_fingerprints(versions[-1].contents, make_fingerprints(2, 9), origin))
            assert store.remove_versions(cell_id, [1]).versions == (1,)
            assert store.remove_cell(cell_id, None).versions == (2, 3)
            assert store.is_removed(cell_id)
        finally:
            client.config_set("maxmemory", 0)
    store.close()


def test_a_redis_without_eviction_fills_up_unless_old_versions_are_collected(
    redis_server: RedisServer, versions: list[Update], make_fingerprints: MakeFingerprints
) -> None:
    empty(redis_server)
    store, cell = RedisStore(redis_server.url, timeout_s=PATIENCE_S), versions[0].manifest.cell
    begin = datetime(2026, 1, 1, tzinfo=UTC)

    def publish_hourly(hours: range, policy: HistoryPolicy | None) -> None:
        for hour in hours:
            now = begin + timedelta(hours=hour)
            update = replace_cell(store.current(cell.cell_id), cell, make_fingerprints(3000, hour), Origin("ann", now))
            _publish(store, update)
            if policy is not None:
                collect_history(store, cell.cell_id, policy, now)

    with redis_server.client() as client:
        client.config_set("maxmemory", int(client.info("memory")["used_memory"]) + 6 * 2**20)
        try:
            with pytest.raises(StoreFull):
                publish_hourly(range(30), None)
            policy = HistoryPolicy(versions=3)
            collect_history(store, cell.cell_id, policy, begin + timedelta(hours=30))
            publish_hourly(range(31, 61), policy)
            assert len(store.numbers(cell.cell_id)) == 3
        finally:
            client.config_set("maxmemory", 0)
    store.close()


def test_no_segment_is_removed_from_redis_if_a_version_that_stays_is_damaged(
    redis_server: RedisServer, versions: list[Update]
) -> None:
    empty(redis_server)
    store = RedisStore(redis_server.url, timeout_s=PATIENCE_S)
    cell_id = versions[0].manifest.cell.cell_id
    for update in versions:
        _publish(store, update)
    manifests = f"fingerpost:{{{cell_id}}}:manifests"
    with redis_server.client() as client:
        client.hset(manifests, "2", b"damaged")
        with pytest.raises(CorruptManifest, match="must stay"):
            store.remove_versions(cell_id, [1])
        assert store.numbers(cell_id) == [1, 2, 3]
        assert store.remove_versions(cell_id, [1, 2]).versions == (1, 2)  # a damaged version can be removed itself
        np.testing.assert_array_equal(read_contents(store, versions[2].manifest).ids, versions[2].contents.ids)
        client.hdel(manifests, "3")
        with pytest.raises(CorruptManifest, match="missing"):
            store.remove_versions(cell_id, [1, 2])
        client.set(f"fingerpost:{{{cell_id}}}:current", b"nonsense")
        client.set(f"fingerpost:{{{cell_id}}}:tombstone", b"")  # as if an older release had published the cell
        assert not store.is_removed(cell_id)
    assert store.remove_cell(cell_id, None).segments == 3  # a damaged cell can be removed
    store.close()


# Makes many stores, and changes each in a forked process that is killed just before one of its file system calls: the
# first in the first store, the second in the second, and so on.
_DYING = """
import os, signal, sys
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
import numpy as np
from reference_db import (
    DirectoryStore, Origin, forget_fingerprints, import_fingerprints, read_contents, read_fingerprint_file
)

folder, change, file = Path(sys.argv[1]), sys.argv[2], read_fingerprint_file(Path(sys.argv[3]))
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
    root = folder / f"{last:03d}"
    store = DirectoryStore(root)
    cell, fingerprints = file
    for _ in range(3):
        manifest = import_fingerprints(store, cell, fingerprints, {}, origin)
    before = read_contents(store, manifest)
    pid = os.fork()
    if not pid:
        step, sync = dying_at(last), os.fsync
        os.fsync = lambda descriptor: (step("os.mkdir", ()), sync(descriptor))
        sys.addaudithook(step)
        if change == "remove versions":
            store.remove_versions(cell.cell_id, [1, 2])
        elif change == "remove cell":
            store.remove_cell(cell.cell_id, None)
        else:
            update = forget_fingerprints(before, np.arange(len(before)) == 0, [1, 2, 3], origin)
            store.publish(update.manifest, update.segments, manifest.digest, update.without)
        os._exit(0)
    if os.waitpid(pid, 0)[1] == 0:
        break
"""


@pytest.mark.parametrize("change", ["remove versions", "remove cell", "forget"])
def test_a_process_killed_at_any_step_of_a_removal_leaves_whole_versions(
    change: str, versions: list[Update], make_fingerprints: MakeFingerprints, tmp_path: Path
) -> None:
    cell, file, folder = versions[0].manifest.cell, tmp_path / "survey.safetensors", tmp_path / "stores"
    write_fingerprint_file(file, cell, make_fingerprints())
    command = [sys.executable, "-W", "error", "-c", _DYING, str(folder), change, str(file)]
    single_threaded = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # it forks
    subprocess.run(command, env=single_threaded, check=True, timeout=120)
    outcomes = []
    for root in sorted(folder.iterdir()):
        store = DirectoryStore(root)
        numbers = store.numbers(cell.cell_id)
        outcomes.append(tuple(numbers))
        contents = [read_contents(store, store.manifest(cell.cell_id, number)) for number in numbers]
        assert all(len(one) == (11 if one.manifest.number == 4 else 12) for one in contents)
        assert leftovers(str(root), store) - {f"cells/{cell.cell_id}/tombstone"} <= _home(cell.cell_id, numbers)
        assert store.is_removed(cell.cell_id) == (not numbers)
        assert _held(root) == {one for each in contents for one in _digests(each)}
    ends = {"remove versions": (3,), "remove cell": (), "forget": (4,)}
    assert (outcomes[0], outcomes[-1]) == ((1, 2, 3), ends[change])
    if change != "remove versions":  # all at once
        assert set(outcomes) == {(1, 2, 3), ends[change]}
    assert len(outcomes) > 5


def _home(cell_id: str, numbers: list[int]) -> set[str]:
    return set() if numbers else {f"cells/{cell_id}", f"cells/{cell_id}/lock"}


def _held(root: Path) -> set[str]:
    return {path.stem for path in root.rglob("*.safetensors")}


def _digests(contents: Contents) -> set[str]:
    return {reference.digest for reference in contents.manifest.segments}


@pytest.mark.parametrize("damage", ["pointer", "versions"])
def test_a_damaged_cell_in_redis_can_be_removed_with_all_its_fingerprints(
    damage: str, server: RedisServer, versions: list[Update]
) -> None:
    store = RedisStore(server.url, timeout_s=PATIENCE_S)
    cell_id = _publish(store, versions[0]).cell.cell_id
    with server.client() as client:
        if damage == "pointer":
            client.set(f"fingerpost:{{{cell_id}}}:current", "damaged")
        else:
            client.set(f"fingerpost:{{{cell_id}}}:manifests", "no hash")
    removal = store.remove_cell(cell_id, None)
    assert removal.segments == len(versions[0].segments)
    assert not [key for key in keys_of(server) if ":segment:" in key or ":manifests" in key]
    assert (store.current(cell_id), store.is_removed(cell_id)) == (None, True)
    _publish(store, versions[0])
    store.close()
