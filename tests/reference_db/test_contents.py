from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reference_db import (
    AntennaArray,
    Cell,
    Contents,
    CorruptManifest,
    DirectoryStore,
    MissingSegment,
    Origin,
    Segment,
    SegmentReference,
    Update,
    append_fingerprints,
    delete_fingerprints,
    read_contents,
    replace_cell,
)
from reference_db.errors import UnknownVersion
from tests.reference_db.conftest import MakeFingerprints


@pytest.fixture
def update(cell: Cell, make_fingerprints: MakeFingerprints, origin: Origin) -> Update:
    """Two segments of 12 and 3 fingerprints; the first four fingerprints have tombstones."""
    created = replace_cell(None, cell, make_fingerprints(), origin)
    both = append_fingerprints(created.contents, make_fingerprints(3, 1), origin)
    left = delete_fingerprints(both.contents, np.arange(15) < 4, origin)
    return replace(left, segments=created.segments + both.segments)


def _published(store: DirectoryStore, update: Update) -> Update:
    first = update.manifest.with_fields(number=1, parent=None)
    store.publish(first, update.segments, None)
    return replace(update, contents=Contents.of(first, update.contents.segments))


def test_arrays_skip_fingerprints_with_tombstones(update: Update, make_fingerprints: MakeFingerprints) -> None:
    contents = update.contents
    parts = [make_fingerprints(), make_fingerprints(3, 1)]
    assert len(contents) == 11
    assert [len(segment) for segment in contents.segments] == [12, 3]
    for name in ("positions", "times", "sigmas"):
        should_be = np.concatenate([getattr(part, name) for part in parts])[4:]
        np.testing.assert_array_equal(getattr(contents, name), should_be)
        np.testing.assert_array_equal(getattr(contents.fingerprints(), name), should_be)
        assert not getattr(contents, name).flags.writeable
    np.testing.assert_array_equal(contents.ids, np.concatenate([Segment.of(part).ids for part in parts])[4:])
    assert contents.kept[0] is not None
    assert contents.kept[0].sum() == 8
    assert contents.kept[1] is None


@pytest.mark.parametrize("most", [1, 9, 10, 11, 50])
def test_a_sample_holds_fingerprints_without_tombstones(update: Update, most: int) -> None:
    contents = update.contents
    drawn = contents.sample(most)
    assert len(drawn) == min(most, 11)
    rows = [int(np.flatnonzero((contents.positions == position).all(axis=1))[0]) for position in drawn.positions]
    assert len(set(rows)) == len(rows)
    np.testing.assert_array_equal(drawn.csi, contents.fingerprints().csi[rows])


def test_a_cell_without_fingerprints_has_empty_arrays(cell: Cell, origin: Origin) -> None:
    contents = replace_cell(None, cell, None, origin).contents
    assert (contents.ids.shape, contents.positions.shape, contents.times.shape) == ((0,), (0, 2), (0,))
    assert len(contents) == 0
    with pytest.raises(ValueError, match="concatenate"):
        contents.fingerprints()


def test_segments_in_memory_are_not_read_again(
    store: DirectoryStore, update: Update, make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    published = _published(store, update)
    held = read_contents(store, published.manifest)
    following = append_fingerprints(held, make_fingerprints(2, 5), origin)
    store.publish(following.manifest, following.segments, published.manifest.digest)
    contents = read_contents(store, following.manifest, held)
    assert contents.segments[:2] == held.segments  # the same objects
    np.testing.assert_array_equal(contents.ids, read_contents(store, following.manifest).ids)
    np.testing.assert_array_equal(contents.ids, following.contents.ids)


def test_a_segment_that_the_store_lacks_is_missing(store: DirectoryStore, tmp_path: Path, update: Update) -> None:
    manifest = _published(store, update).manifest
    for path in tmp_path.rglob(f"{manifest.segments[0].digest}.safetensors"):
        path.unlink()
    with pytest.raises(MissingSegment):
        read_contents(store, manifest)


def test_a_version_that_the_store_lacks_is_unknown(store: DirectoryStore, update: Update) -> None:
    with pytest.raises(UnknownVersion):
        read_contents(store, update.manifest)


def test_a_manifest_that_does_not_describe_its_segments_is_corrupt(update: Update) -> None:
    manifest, segments = update.manifest, update.contents.segments
    first, second = manifest.segments
    wider = manifest.cell.model_copy(update={"array": AntennaArray(rows=2, columns=4)})
    for wrong in (
        {"segments": (second, first)},
        {"segments": (first,)},
        {"segments": (first, SegmentReference(digest=second.digest, count=2))},
        {"indexed": 3},
        {"cell": wider},
        {"tombstones": (*manifest.tombstones, 7)},  # matches no fingerprint
        {"tombstones": manifest.tombstones[1:] * 2},
    ):
        with pytest.raises(CorruptManifest):
            Contents.of(manifest.with_fields(**wrong), segments)
    with pytest.raises(CorruptManifest):
        Contents.of(manifest, segments[:1])
