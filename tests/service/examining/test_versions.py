from pathlib import Path

import pytest

from reference_db import CellVersion, DirectoryStore, append_fingerprints
from reference_db.segment import Segment
from service.examining.versions import ExaminedVersions, SegmentsMissing
from tests.service.plane_cell import fingerprints_at, make_cell, street
from tests.service.tiny_cell import ORIGIN, version_of


def chain(count: int, cell_id: str = "plane", first: int = 40) -> list[CellVersion]:
    """Versions of a cell, each with ten fingerprints more than the one before."""
    versions = [version_of(make_cell(cell_id), fingerprints_at(street(first, 1)))]
    for seed in range(2, count + 1):
        update = append_fingerprints(versions[-1].contents, fingerprints_at(street(10, seed)), ORIGIN)
        versions.append(CellVersion.assemble(update.contents, versions[-1]))
    return versions


def segments_of(version: CellVersion) -> dict[str, Segment]:
    return {
        reference.digest: segment
        for reference, segment in zip(version.manifest.segments, version.contents.segments, strict=True)
    }


@pytest.fixture
def versions(tmp_path: Path) -> ExaminedVersions:
    return ExaminedVersions(lambda: DirectoryStore(tmp_path), 2**30)


def test_a_version_is_indexed_once_and_shares_the_index_of_the_one_before(versions: ExaminedVersions) -> None:
    first, second = chain(2, first=600)  # a smaller cell would be indexed anew
    held = versions.find(first.manifest, segments_of(first))
    assert versions.find(first.manifest, {}) is held
    newer = versions.find(second.manifest, segments_of(second))
    assert newer.base is held.base
    assert newer.ids.tolist() == second.ids.tolist()


def test_segments_that_are_neither_held_nor_stored_are_named(versions: ExaminedVersions) -> None:
    first, second = chain(2)
    versions.find(first.manifest, segments_of(first))
    with pytest.raises(SegmentsMissing) as missing:
        versions.find(second.manifest, {})
    assert missing.value.digests == (second.manifest.segments[-1].digest,)


def test_few_versions_are_held_those_used_last(versions: ExaminedVersions) -> None:
    cells = [chain(1, f"cell-{number}")[0] for number in range(5)]
    held = [versions.find(cell.manifest, segments_of(cell)) for cell in cells[:4]]
    assert versions.find(cells[0].manifest, {}) is held[0]
    versions.find(cells[4].manifest, segments_of(cells[4]))
    assert versions.find(cells[0].manifest, {}) is held[0]
    with pytest.raises(SegmentsMissing):
        versions.find(cells[1].manifest, {})


def test_beyond_the_budget_two_versions_are_held(tmp_path: Path) -> None:
    versions = ExaminedVersions(lambda: DirectoryStore(tmp_path), 1)
    cells = [chain(1, f"cell-{number}")[0] for number in range(3)]
    held = [versions.find(cell.manifest, segments_of(cell)) for cell in cells]
    assert [versions.find(cell.manifest, {}) for cell in cells[1:]] == held[1:]
    with pytest.raises(SegmentsMissing):
        versions.find(cells[0].manifest, {})


def test_versions_that_are_not_used_any_more_are_dropped(tmp_path: Path) -> None:
    now = 0.0
    versions = ExaminedVersions(lambda: DirectoryStore(tmp_path), 2**30, lambda: now)
    first, second = (chain(1, f"cell-{number}")[0] for number in range(2))
    versions.find(first.manifest, segments_of(first))
    held = versions.find(second.manifest, segments_of(second))
    now = 200.0
    assert versions.find(second.manifest, {}) is held
    now = 301.0
    assert versions.find(second.manifest, {}) is held
    with pytest.raises(SegmentsMissing):
        versions.find(first.manifest, {})
