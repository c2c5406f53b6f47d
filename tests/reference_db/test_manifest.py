import json
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256

import pytest
from pydantic import ValidationError

from reference_db import Cell, Change, CorruptManifest, Manifest, RequestKey, Retention, SegmentReference


@pytest.fixture
def manifest(cell: Cell) -> Manifest:
    return Manifest(
        cell=cell,
        number=3,
        parent="a" * 64,
        segments=(SegmentReference(digest="b" * 64, count=12), SegmentReference(digest="c" * 64, count=3)),
        indexed=1,
        tombstones=(0, 2**64 - 1),
        retention=Retention(max_age_s=86400.0, min_spacing_m=0.5),
        quality={"radius": 0.75, "levels": [0.5, None]},
        created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        change=Change(
            action="appended",
            added=3,
            removed=2,
            author="ada",
            note="zweite Messfahrt, Straße 7",
            request=RequestKey(key="d" * 64, body="e" * 64),
        ),
    )


def test_a_manifest_is_read_back_from_its_bytes(manifest: Manifest) -> None:
    back = Manifest.from_bytes(manifest.to_bytes(), manifest.digest)
    assert back == manifest
    assert back.to_bytes() == manifest.to_bytes()


def test_its_bytes_are_canonical_json(manifest: Manifest) -> None:
    text = manifest.to_bytes().decode()
    canonical = json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert text == canonical


def test_descriptions_without_the_newer_fields_keep_their_bytes(manifest: Manifest) -> None:
    fields = json.loads(manifest.to_bytes())["cell"]
    assert set(fields["array"]) == {"rows", "columns", "spacing"}
    assert not {"survey_sto", "user_sto"} & set(fields)


def test_a_polarised_array_and_the_timing_of_radios_are_kept(manifest: Manifest) -> None:
    array = manifest.cell.array.model_copy(update={"polarisations": 2})
    cell = manifest.cell.model_copy(update={"array": array, "survey_sto": 0.0, "user_sto": 1e-8})
    described = manifest.with_fields(cell=cell)
    assert Manifest.from_bytes(described.to_bytes(), described.digest).cell == cell


def test_its_version_is_its_number_and_the_start_of_its_digest(manifest: Manifest) -> None:
    assert manifest.version == f"3-{manifest.digest[:12]}"


def test_it_counts_the_fingerprints_without_tombstones(manifest: Manifest) -> None:
    assert manifest.fingerprints == 13


def test_any_change_changes_the_digest(manifest: Manifest) -> None:
    digests = {
        manifest.with_fields(**{field: value}).digest
        for field, value in {
            "number": 4,
            "parent": None,
            "indexed": 2,
            "tombstones": (0,),
            "retention": Retention(),
            "quality": {},
            "change": manifest.change.model_copy(update={"note": ""}),
        }.items()
    }
    assert len(digests | {manifest.digest}) == 8


def test_adding_quality_changes_a_digest_that_was_computed_before(manifest: Manifest) -> None:
    before = manifest.digest
    measured = manifest.with_quality({"radius": 1.5, "survey": None})
    assert measured.quality == {"radius": 1.5, "levels": [0.5, None], "survey": None}
    assert measured.digest != before
    assert Manifest.from_bytes(measured.to_bytes(), measured.digest) == measured
    with pytest.raises(ValidationError, match="quality"):
        manifest.with_quality({"radius": float("nan")})


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


def test_a_time_keeps_its_zone(manifest: Manifest) -> None:
    there = datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=2)))
    moved = manifest.with_fields(created_at=there)
    assert Manifest.from_bytes(moved.to_bytes(), moved.digest).created_at == there


def test_damaged_bytes_are_refused(manifest: Manifest) -> None:
    with pytest.raises(CorruptManifest, match="hashes to"):
        Manifest.from_bytes(manifest.to_bytes() + b" ", manifest.digest)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "Invalid JSON: EOF"),
        (b"{}", "cell: Field required; number: Field required"),
        (b"[1]", "Input should be an object"),
        (b'{"schema_version":1}', "schema_version: Input should be 2; cell: Field required"),
    ],
)
def test_bytes_that_are_not_a_manifest_are_refused_even_with_their_digest(data: bytes, fault: str) -> None:
    with pytest.raises(CorruptManifest, match=fault):
        Manifest.from_bytes(data, sha256(data).hexdigest())


def test_a_version_without_a_model_policy_is_auto_and_keeps_its_digest(manifest: Manifest) -> None:
    assert b"model" not in manifest.to_bytes()
    assert Manifest.from_bytes(manifest.to_bytes(), manifest.digest).model == "auto"


def test_the_model_policy_is_part_of_the_digest(manifest: Manifest) -> None:
    chosen = manifest.with_fields(model="scadf-moe")
    assert chosen.digest != manifest.digest
    assert Manifest.from_bytes(chosen.to_bytes(), chosen.digest).model == "scadf-moe"
