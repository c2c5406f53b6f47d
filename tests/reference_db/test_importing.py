from collections.abc import Callable
from pathlib import Path

import pytest

from reference_db import (
    BadFingerprint,
    Cell,
    DirectoryStore,
    Fingerprints,
    Origin,
    TooFewFingerprints,
    import_fingerprints,
)


def _files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_first_import_creates_the_cell(
    store: DirectoryStore, cell: Cell, make_fingerprints: Callable[..., Fingerprints], origin: Origin
) -> None:
    manifest = import_fingerprints(store, cell, make_fingerprints(), {"radius": 0.5}, origin)
    assert (manifest.number, manifest.parent, manifest.fingerprints) == (1, None, 12)
    assert (manifest.quality["radius"], manifest.created_at) == (0.5, origin.now)
    assert (manifest.change.action, manifest.change.author) == ("created", origin.author)
    assert store.current(cell.cell_id) == manifest


def test_a_second_import_replaces_the_first(
    store: DirectoryStore, cell: Cell, make_fingerprints: Callable[..., Fingerprints], origin: Origin
) -> None:
    first = import_fingerprints(store, cell, make_fingerprints(), {}, origin)
    second = import_fingerprints(store, cell, make_fingerprints(5, seed=1), {}, origin)
    assert (second.number, second.parent, second.fingerprints) == (2, first.digest, 5)
    assert (second.change.action, second.change.added, second.change.removed) == ("replaced", 5, 12)
    assert store.current(cell.cell_id) == second


def test_a_bad_fingerprint_changes_nothing(
    store: DirectoryStore,
    cell: Cell,
    make_fingerprints: Callable[..., Fingerprints],
    tmp_path: Path,
    origin: Origin,
) -> None:
    import_fingerprints(store, cell, make_fingerprints(), {}, origin)
    before = _files(tmp_path)
    bad = make_fingerprints(seed=1)
    bad.sigmas[11] = 0
    with pytest.raises(BadFingerprint, match="row 11"):
        import_fingerprints(store, cell, bad, {}, origin)
    with pytest.raises(TooFewFingerprints):
        import_fingerprints(store, cell, make_fingerprints(0), {}, origin)
    with pytest.raises(ValueError, match="quality"):
        import_fingerprints(store, cell, make_fingerprints(seed=1), {"radius": float("nan")}, origin)
    assert _files(tmp_path) == before
