import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from reference_db import Cell, CorruptManifest, Manifest, SegmentReference


@pytest.fixture
def manifest(cell: Cell) -> Manifest:
    return Manifest(
        cell=cell,
        number=3,
        parent="a" * 64,
        segments=(SegmentReference(digest="b" * 64, count=12),),
        tombstones=(0, 2**64 - 1),
        quality={"radius": 0.75, "levels": [0.5, None]},
        created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        note="zweite Messfahrt, Straße 7",
    )


def test_a_manifest_survives_its_bytes(manifest: Manifest) -> None:
    back = Manifest.from_bytes(manifest.to_bytes(), manifest.digest)
    assert back == manifest
    assert back.to_bytes() == manifest.to_bytes()


def test_its_bytes_are_canonical_json(manifest: Manifest) -> None:
    text = manifest.to_bytes().decode()
    canonical = json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert text == canonical


def test_its_version_is_its_number_and_the_start_of_its_digest(manifest: Manifest) -> None:
    assert manifest.version == f"3-{manifest.digest[:12]}"


def test_any_change_changes_the_digest(manifest: Manifest) -> None:
    assert manifest.model_copy(update={"note": ""}).digest != manifest.digest


def test_a_manifest_is_immutable(manifest: Manifest) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        manifest.number = 4


@pytest.mark.parametrize("bad", [float("nan"), [float("inf")], {"deep": [-float("inf")]}])
def test_quality_must_be_finite(manifest: Manifest, bad: object) -> None:
    with pytest.raises(ValidationError, match="quality"):
        Manifest.model_validate({**manifest.model_dump(), "quality": {"radius": bad}})


def test_a_time_without_a_zone_is_refused(manifest: Manifest) -> None:
    with pytest.raises(ValidationError, match="created_at"):
        Manifest.model_validate({**manifest.model_dump(), "created_at": datetime(2026, 1, 2)})


def test_a_time_of_another_zone_survives(manifest: Manifest) -> None:
    there = datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=2)))
    moved = manifest.model_copy(update={"created_at": there})
    assert Manifest.from_bytes(moved.to_bytes(), moved.digest).created_at == there


def test_damaged_bytes_are_refused(manifest: Manifest) -> None:
    with pytest.raises(CorruptManifest):
        Manifest.from_bytes(manifest.to_bytes() + b" ", manifest.digest)
