import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from reference_db import (
    Cell,
    CorruptManifest,
    CorruptSegment,
    DirectoryStore,
    Fingerprints,
    ReferenceDatabase,
    UnknownCell,
    import_fingerprints,
    signal_feature,
)
from reference_db.cell_version import CellVersion
from reference_db.segment import Segment

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class SlowStore(DirectoryStore):
    """Counts the segments it hands out, and hands out none before `go` is set."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.go = threading.Event()
        self.reads = 0

    def get_segment(self, digest: str) -> bytes:
        assert self.go.wait(30)
        self.reads += 1
        return super().get_segment(digest)


@pytest.fixture
def version(store: DirectoryStore, cell: Cell, make_fingerprints: Callable[..., Fingerprints]) -> CellVersion:
    import_fingerprints(store, cell, make_fingerprints(), {}, "", NOW)
    return ReferenceDatabase(store).cell(cell.cell_id)


def test_a_loaded_cell_holds_what_was_imported(
    version: CellVersion, cell: Cell, make_fingerprints: Callable[..., Fingerprints]
) -> None:
    fingerprints = make_fingerprints()
    assert version.cell == cell
    assert version.version == version.manifest.version
    assert len(version) == len(version.index) == len(version.signals) == 12
    for name in ("positions", "times", "sigmas"):
        np.testing.assert_array_equal(getattr(version, name), getattr(fingerprints, name))
    west, south, east, north = version.extent
    np.testing.assert_array_equal([west, south], fingerprints.positions.min(axis=0))
    np.testing.assert_array_equal([east, north], fingerprints.positions.max(axis=0))


def test_the_csi_of_a_neighbourhood_comes_as_real_pairs(
    version: CellVersion, make_fingerprints: Callable[..., Fingerprints]
) -> None:
    indices, _ = version.index.nearest(version.positions[:3], 5)
    csi = version.csi_of(indices)
    expected = make_fingerprints().csi[indices]
    assert (csi.dtype, csi.shape) == (np.float32, (3, 5, 4, 6, 2))
    np.testing.assert_allclose(csi[..., 0] + 1j * csi[..., 1], expected, rtol=1e-3)


def test_a_fingerprint_of_the_version_sounds_most_like_itself(
    version: CellVersion, make_fingerprints: Callable[..., Fingerprints]
) -> None:
    indices, distances = version.signals.nearest(signal_feature(make_fingerprints().csi), 1)
    np.testing.assert_array_equal(indices[:, 0], np.arange(12))
    np.testing.assert_allclose(distances, 0, atol=0.02)


def test_a_version_cannot_be_written_to(version: CellVersion) -> None:
    for name in ("ids", "positions", "csi", "scale", "times", "sigmas"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(version, name)[0] = 0


def test_tombstones_take_their_fingerprints_away(version: CellVersion, store: DirectoryStore) -> None:
    digest = version.manifest.segments[0].digest
    segment = Segment.from_bytes(store.get_segment(digest), digest)
    dead = tuple(version.ids[[2, 5]].tolist())
    fewer = CellVersion.assemble(version.manifest.model_copy(update={"tombstones": dead}), [segment])
    assert len(fewer) == len(fewer.index) == len(fewer.signals) == 10
    np.testing.assert_array_equal(fewer.positions, np.delete(version.positions, [2, 5], axis=0))
    everything = tuple(version.ids.tolist())
    with pytest.raises(CorruptManifest, match="leaves no fingerprint"):
        CellVersion.assemble(version.manifest.model_copy(update={"tombstones": everything}), [segment])


def test_a_segment_other_than_the_manifest_says_is_refused(
    version: CellVersion, make_fingerprints: Callable[..., Fingerprints]
) -> None:
    with pytest.raises(CorruptManifest, match="does not describe"):
        CellVersion.assemble(version.manifest, [Segment.of(make_fingerprints(11))])


def test_an_unknown_cell_is_refused_until_it_is_imported(
    store: DirectoryStore, cell: Cell, make_fingerprints: Callable[..., Fingerprints]
) -> None:
    database = ReferenceDatabase(store)
    with pytest.raises(UnknownCell, match="florence-1"):
        database.cell(cell.cell_id)
    import_fingerprints(store, cell, make_fingerprints(), {}, "", NOW)
    assert database.cells() == [cell.cell_id]
    assert len(database.cell(cell.cell_id)) == 12


def test_a_held_version_stays_until_it_is_reloaded(
    store: DirectoryStore, cell: Cell, make_fingerprints: Callable[..., Fingerprints]
) -> None:
    import_fingerprints(store, cell, make_fingerprints(), {}, "", NOW)
    database = ReferenceDatabase(store)
    held = database.cell(cell.cell_id)
    assert database.reload(cell.cell_id) is held
    import_fingerprints(store, cell, make_fingerprints(5, seed=1), {}, "", NOW)
    assert database.cell(cell.cell_id) is held
    new = database.reload(cell.cell_id)
    assert database.cell(cell.cell_id) is new
    assert (len(held), len(new)) == (12, 5)


def test_a_flipped_byte_is_refused_and_the_held_version_stays(
    store: DirectoryStore, cell: Cell, make_fingerprints: Callable[..., Fingerprints], tmp_path: Path
) -> None:
    import_fingerprints(store, cell, make_fingerprints(), {}, "", NOW)
    database = ReferenceDatabase(store)
    held = database.cell(cell.cell_id)
    (old,) = tmp_path.rglob("*.safetensors")
    import_fingerprints(store, cell, make_fingerprints(seed=1), {}, "", NOW)
    (new,) = set(tmp_path.rglob("*.safetensors")) - {old}
    damaged = bytearray(new.read_bytes())
    damaged[-1] ^= 1
    new.write_bytes(damaged)
    with pytest.raises(CorruptSegment):
        database.reload(cell.cell_id)
    assert database.cell(cell.cell_id) is held
    with pytest.raises(CorruptSegment):
        ReferenceDatabase(store).cell(cell.cell_id)


def test_many_threads_share_one_load(
    cell: Cell, make_fingerprints: Callable[..., Fingerprints], tmp_path: Path
) -> None:
    store = SlowStore(tmp_path)
    import_fingerprints(store, cell, make_fingerprints(), {}, "", NOW)
    database = ReferenceDatabase(store)
    everybody = threading.Barrier(9)

    def load() -> CellVersion:
        everybody.wait(30)
        return database.cell(cell.cell_id)

    with ThreadPoolExecutor(8) as pool:
        loads = [pool.submit(load) for _ in range(8)]
        everybody.wait(30)
        time.sleep(0.2)  # long enough that whoever does not wait for the one load begins a second one
        store.go.set()
        versions = {id(future.result(30)) for future in loads}
    assert len(versions) == 1
    assert store.reads == 1


def test_a_slow_load_does_not_hold_up_other_cells(
    cell: Cell, make_fingerprints: Callable[..., Fingerprints], tmp_path: Path
) -> None:
    store = SlowStore(tmp_path)
    other = cell.model_copy(update={"cell_id": "florence-2"})
    import_fingerprints(store, cell, make_fingerprints(), {}, "", NOW)
    import_fingerprints(store, other, make_fingerprints(seed=1), {}, "", NOW)
    database = ReferenceDatabase(store)
    store.go.set()
    database.cell(other.cell_id)
    store.go.clear()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(database.cell, cell.cell_id)
        assert len(database.cell(other.cell_id)) == 12
        assert not slow.done()
        store.go.set()
        assert len(slow.result(30)) == 12
