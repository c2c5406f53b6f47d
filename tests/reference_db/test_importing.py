from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reference_db import (
    BadFingerprint,
    Cell,
    DirectoryStore,
    Fingerprints,
    TooFewFingerprints,
    import_fingerprints,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def _files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_first_import_creates_the_cell(
    store: DirectoryStore, cell: Cell, make_fingerprints: Callable[..., Fingerprints]
) -> None:
    manifest = import_fingerprints(store, cell, make_fingerprints(), {"radius": 0.5}, "first", NOW)
    assert (manifest.number, manifest.parent) == (1, None)
    assert (manifest.quality, manifest.note, manifest.created_at) == ({"radius": 0.5}, "first", NOW)
    assert [segment.count for segment in manifest.segments] == [12]


def test_a_second_import_replaces_the_first(
    store: DirectoryStore, cell: Cell, make_fingerprints: Callable[..., Fingerprints]
) -> None:
    first = import_fingerprints(store, cell, make_fingerprints(), {}, "", NOW)
    second = import_fingerprints(store, cell, make_fingerprints(5, seed=1), {}, "", NOW)
    assert (second.number, second.parent) == (2, first.digest)
    assert [segment.count for segment in second.segments] == [5]
    assert store.current(cell.cell_id) == second


def test_a_bad_fingerprint_changes_nothing(
    store: DirectoryStore, cell: Cell, make_fingerprints: Callable[..., Fingerprints], tmp_path: Path
) -> None:
    import_fingerprints(store, cell, make_fingerprints(), {}, "", NOW)
    before = _files(tmp_path)
    bad = make_fingerprints(seed=1)
    bad.sigmas[11] = 0
    with pytest.raises(BadFingerprint, match="row 11"):
        import_fingerprints(store, cell, bad, {}, "", NOW)
    with pytest.raises(TooFewFingerprints):
        import_fingerprints(store, cell, make_fingerprints(0), {}, "", NOW)
    with pytest.raises(ValueError, match="quality"):
        import_fingerprints(store, cell, make_fingerprints(seed=1), {"radius": float("nan")}, "", NOW)
    assert _files(tmp_path) == before
