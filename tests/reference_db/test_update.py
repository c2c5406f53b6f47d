"""Updates: what each one keeps, adds and removes, and when it compacts."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from reference_db import (
    AntennaArray,
    Area,
    BadFingerprint,
    BadUpdate,
    Cell,
    Contents,
    Fingerprints,
    LocalFrame,
    Origin,
    RequestKey,
    Retention,
    Segment,
    TooFewFingerprints,
    Update,
    append_fingerprints,
    apply_retention,
    correct_cell,
    delete_fingerprints,
    forget_fingerprints,
    replace_cell,
    roll_back,
    set_model_policy,
    set_retention,
    version_plan,
)
from reference_db.segment import digest_of
from tests.reference_db.conftest import MakeFingerprints
from tests.reference_db.sound_version import check_sound, lower_bounds


@pytest.fixture
def created(cell: Cell, make_fingerprints: MakeFingerprints, origin: Origin) -> Update:
    return replace_cell(None, cell, make_fingerprints(), origin)


@pytest.fixture
def low_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    lower_bounds(monkeypatch)


def _later(origin: Origin, **since: float) -> Origin:
    return replace(origin, now=origin.now + timedelta(**since))


def test_a_cell_is_created_with_fingerprints_or_without(created: Update, cell: Cell, origin: Origin) -> None:
    check_sound(created)
    change = created.manifest.change
    assert (created.manifest.number, created.manifest.parent) == (1, None)
    assert (change.action, change.added, change.removed) == ("created", 12, 0)
    assert created.segments == tuple(segment.to_bytes() for segment in created.contents.segments)
    bare = replace_cell(None, cell, None, origin)
    check_sound(bare)
    assert (bare.manifest.segments, bare.segments, bare.manifest.fingerprints) == ((), (), 0)


def test_every_version_says_who_made_it_when_and_why(created: Update, make_fingerprints: MakeFingerprints) -> None:
    request = RequestKey(key="a" * 64, body="b" * 64)
    origin = Origin("bob", created.manifest.created_at + timedelta(hours=1), "second drive", request)
    before = created.contents
    made = [
        replace_cell(created.manifest, created.manifest.cell, make_fingerprints(3, 1), origin),
        append_fingerprints(before, make_fingerprints(3, 1), origin),
        delete_fingerprints(before, np.arange(12) < 3, origin),
        set_retention(before, Retention(max_fingerprints=6), origin),
        apply_retention(set_retention(before, Retention(max_age_s=1e9), origin).contents, _later(origin, days=20_000)),
        roll_back(created.manifest, before, origin),
    ]
    actions = ["replaced", "appended", "deleted", "retention set", "thinned", "rolled back"]
    counts = [(3, 12), (3, 0), (0, 3), (0, 6), (0, 12), (12, 12)]
    for update, action, (added, removed) in zip(made, actions, counts, strict=True):
        assert update is not None
        check_sound(update)
        manifest, change = update.manifest, update.manifest.change
        assert (change.action, change.added, change.removed) == (action, added, removed)
        assert (change.author, change.note, change.request) == ("bob", "second drive", request)
        if action != "thinned":
            assert (manifest.number, manifest.parent) == (2, created.manifest.digest)
            assert manifest.created_at == origin.now


def test_appended_fingerprints_become_a_new_segment(
    created: Update, make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    update = append_fingerprints(created.contents, make_fingerprints(1, 1), origin)
    assert update.manifest.segments[0] == created.manifest.segments[0]
    assert update.contents.segments[0] is created.contents.segments[0]
    assert [digest_of(data) for data in update.segments] == [update.manifest.segments[1].digest]
    np.testing.assert_array_equal(update.contents.ids[:12], created.contents.ids)


def test_a_fingerprint_of_the_cell_cannot_be_appended_again(
    created: Update, make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    known, new = make_fingerprints(), make_fingerprints(3, 1)
    mixed = Fingerprints(
        *(
            np.concatenate([getattr(new, name), getattr(known, name)[4:6]])
            for name in ("csi", "positions", "times", "sigmas")
        )
    )
    with pytest.raises(BadFingerprint, match="already has this fingerprint") as caught:
        append_fingerprints(created.contents, mixed, origin)
    assert caught.value.row == 3
    with pytest.raises(TooFewFingerprints):
        append_fingerprints(created.contents, make_fingerprints(0), origin)
    with pytest.raises(BadFingerprint, match="antennas"):
        append_fingerprints(created.contents, replace(new, csi=new.csi[:, :2]), origin)


def test_a_deleted_fingerprint_gets_a_tombstone_and_can_come_back(
    created: Update, make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    left = delete_fingerprints(created.contents, np.isin(np.arange(12), (2, 5)), origin)
    check_sound(left)
    assert left.segments == ()
    assert set(left.manifest.tombstones) == set(created.contents.ids[[2, 5]].tolist())
    some = make_fingerprints()
    again = Fingerprints(some.csi[4:6], some.positions[4:6], some.times[4:6], some.sigmas[4:6])
    with pytest.raises(BadFingerprint):
        append_fingerprints(left.contents, again, origin)
    again = Fingerprints(some.csi[5:6], some.positions[5:6], some.times[5:6], some.sigmas[5:6])
    back = append_fingerprints(left.contents, again, origin)
    check_sound(back)
    assert back.segments == ()
    assert back.manifest.segments == created.manifest.segments
    np.testing.assert_array_equal(back.contents.ids, np.delete(created.contents.ids, 2))


def test_a_deletion_that_selects_no_fingerprint_is_refused(created: Update, origin: Origin) -> None:
    with pytest.raises(BadUpdate):
        delete_fingerprints(created.contents, np.zeros(12, np.bool_), origin)


def test_a_cell_may_lose_all_its_fingerprints_and_get_new_ones(
    created: Update, make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    bare = delete_fingerprints(created.contents, np.ones(12, np.bool_), origin)
    check_sound(bare)
    assert (bare.manifest.segments, bare.manifest.tombstones) == ((), ())
    for fingerprints in (make_fingerprints(), make_fingerprints(3, 1)):
        update = append_fingerprints(bare.contents, fingerprints, origin)
        check_sound(update)
        np.testing.assert_array_equal(update.contents.ids, Segment.of(fingerprints).ids)


def test_a_replacement_takes_the_description_and_keeps_the_retention(
    created: Update, make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    before = set_retention(created.contents, Retention(max_fingerprints=50), origin)
    moved = created.manifest.cell.model_copy(update={"yaw": 1.0})
    update = replace_cell(before.manifest, moved, make_fingerprints(4, 1), origin)
    check_sound(update)
    assert update.manifest.cell == moved
    assert update.manifest.retention == Retention(max_fingerprints=50)
    with pytest.raises(BadUpdate, match="needs fingerprints"):
        replace_cell(before.manifest, moved, None, origin)
    other = moved.model_copy(update={"cell_id": "other"})
    with pytest.raises(BadUpdate, match="cannot become"):
        replace_cell(before.manifest, other, make_fingerprints(4, 1), origin)


def test_retention_takes_effect_at_once_and_with_each_update(
    created: Update, make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    few = set_retention(created.contents, Retention(max_fingerprints=5), origin)
    check_sound(few)
    newest = np.sort(np.argsort(created.contents.times)[-5:])
    np.testing.assert_array_equal(few.contents.ids, created.contents.ids[newest])
    fresh = replace(make_fingerprints(3, 1), times=np.full(3, origin.now.timestamp()))
    update = append_fingerprints(few.contents, fresh, origin)
    check_sound(update)
    assert (update.manifest.change.added, update.manifest.change.removed) == (3, 3)
    assert len(update.contents) == 5
    assert np.isin(Segment.of(fresh).ids, update.contents.ids).all()
    stale = replace(make_fingerprints(2, 2), times=np.full(2, 1.3e9))
    update = append_fingerprints(few.contents, stale, origin)  # older than all kept fingerprints
    check_sound(update)
    assert (update.manifest.change.added, update.manifest.change.removed) == (2, 2)
    np.testing.assert_array_equal(update.contents.ids, few.contents.ids)
    assert update.segments == ()


def test_applying_retention_makes_a_version_only_if_something_expired(created: Update, origin: Origin) -> None:
    times = created.contents.times
    age = origin.now.timestamp() - np.median(times)
    month = set_retention(created.contents, Retention(max_age_s=age + 3600), origin)
    assert len(month.contents) == 12
    assert apply_retention(month.contents, origin) is None
    update = apply_retention(month.contents, _later(origin, hours=1))
    assert update is not None
    check_sound(update)
    np.testing.assert_array_equal(update.contents.ids, created.contents.ids[times >= np.median(times)])


def test_a_rollback_is_the_old_version_with_a_new_number(
    created: Update, make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    target = created.with_quality({"radius": 0.5})
    assert target.manifest.digest  # computed once, as for every published version
    now = replace_cell(
        set_retention(target.contents, Retention(max_fingerprints=50), origin).manifest,
        created.manifest.cell.model_copy(update={"yaw": 1.0}),
        make_fingerprints(4, 1),
        origin,
    )
    back = roll_back(now.manifest, target.contents, origin)
    check_sound(back)
    manifest = back.manifest
    assert (manifest.number, manifest.parent) == (now.manifest.number + 1, now.manifest.digest)
    for name in ("cell", "segments", "indexed", "tombstones", "retention", "quality"):
        assert getattr(manifest, name) == getattr(target.manifest, name)
    assert manifest.digest != target.manifest.digest
    assert back.segments == ()


def test_a_version_reads_the_same_from_its_bytes(
    created: Update, make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    update = delete_fingerprints(
        append_fingerprints(created.contents, make_fingerprints(3, 1), origin).contents, np.arange(15) < 2, origin
    )
    written = {digest_of(data): data for data in (one.to_bytes() for one in update.contents.segments)}
    segments = [Segment.from_buffer(written[one.digest], one.digest) for one in update.manifest.segments]
    read = Contents.of(type(update.manifest).from_bytes(update.manifest.to_bytes(), update.manifest.digest), segments)
    np.testing.assert_array_equal(read.ids, update.contents.ids)
    following = append_fingerprints(read, make_fingerprints(2, 2), origin)  # and updates of it are the same
    assert following.manifest == append_fingerprints(update.contents, make_fingerprints(2, 2), origin).manifest


def test_appends_extend_the_indices_until_they_are_rebuilt(
    created: Update,
    make_fingerprints: MakeFingerprints,
    origin: Origin,
    low_bounds: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(version_plan, "_MOST_SEGMENTS", 32)
    update, indexed = created, []
    for seed in range(1, 5):
        update = append_fingerprints(update.contents, make_fingerprints(1, seed), origin)
        indexed.append(update.manifest.indexed)
    assert indexed == [1, 1, 1, 5]


def test_many_small_segments_are_joined(
    created: Update, make_fingerprints: MakeFingerprints, origin: Origin, low_bounds: None
) -> None:
    update, most = created, 0
    for seed in range(1, 40):
        update = append_fingerprints(update.contents, make_fingerprints(1, seed), origin)
        most = max(most, len(update.manifest.segments))
        check_sound(update)
    assert most <= 6  # three indexed and three not indexed
    should_be = [created.contents.ids, *(Segment.of(make_fingerprints(1, seed)).ids for seed in range(1, 40))]
    np.testing.assert_array_equal(update.contents.ids, np.concatenate(should_be))


def test_segments_are_not_joined_beyond_the_largest_segment(
    created: Update,
    make_fingerprints: MakeFingerprints,
    origin: Origin,
    low_bounds: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(version_plan, "MOST_BYTES", 15 * created.contents.segments[0].csi[:1].nbytes)
    update = created
    for seed in range(1, 20):
        update = append_fingerprints(update.contents, make_fingerprints(2, seed), origin)
        check_sound(update)
        assert all(len(segment) <= 15 for segment in update.contents.segments)
    assert len(update.contents.segments) <= 8


def test_many_deleted_fingerprints_are_removed_from_their_segments(
    created: Update, make_fingerprints: MakeFingerprints, origin: Origin, low_bounds: None
) -> None:
    both = append_fingerprints(created.contents, make_fingerprints(3, 1), origin)
    marked = delete_fingerprints(both.contents, np.arange(15) < 3, origin)
    assert (len(marked.manifest.tombstones), marked.segments) == (3, ())
    rewritten = delete_fingerprints(marked.contents, np.arange(12) < 1, origin)
    check_sound(rewritten)
    assert rewritten.manifest.tombstones == ()
    assert [reference.count for reference in rewritten.manifest.segments] == [8, 3]
    assert rewritten.contents.segments[1] is both.contents.segments[1]
    np.testing.assert_array_equal(rewritten.contents.ids, both.contents.ids[4:])


def test_setting_a_model_policy_changes_nothing_else(created: Update, origin: Origin) -> None:
    before = created.with_quality({"radius": 0.7})
    after = set_model_policy(before.contents, "scadf-moe", _later(origin, days=1))
    assert after.segments == ()
    manifest = after.manifest
    assert (manifest.model, manifest.number, manifest.parent) == ("scadf-moe", 2, before.manifest.digest)
    assert (manifest.change.action, manifest.change.added, manifest.change.removed) == ("model set", 0, 0)
    assert (manifest.segments, manifest.quality) == (before.manifest.segments, before.manifest.quality)
    with pytest.raises(BadUpdate, match="already scadf-moe"):
        set_model_policy(after.contents, "scadf-moe", origin)


def test_updates_keep_the_model_policy_and_a_rollback_restores_the_old_one(
    created: Update, cell: Cell, make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    chosen = set_model_policy(created.contents, "mateformer", origin)
    more = append_fingerprints(chosen.contents, make_fingerprints(seed=1), origin)
    assert more.manifest.model == "mateformer"
    assert replace_cell(more.manifest, cell, make_fingerprints(seed=2), origin).manifest.model == "mateformer"
    assert roll_back(more.manifest, created.contents, origin).manifest.model == "auto"


def test_forgotten_fingerprints_leave_their_segments_and_their_tombstones(
    created: Update, make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    appended = append_fingerprints(created.contents, make_fingerprints(5, 1), origin)
    deleted = delete_fingerprints(appended.contents, np.arange(17) < 2, origin)
    stored = deleted.contents.with_deleted().ids
    assert len(stored) == 17
    doomed = np.isin(np.arange(17), (1, 2, 13))  # one of them deleted before, one in the last segment
    update = forget_fingerprints(deleted.contents, doomed, [1, 2, 3], origin)
    check_sound(update)
    assert update.without == (1, 2, 3)
    np.testing.assert_array_equal(update.contents.with_deleted().ids, stored[~doomed])
    assert (update.manifest.change.action, update.manifest.change.removed) == ("forgotten", 2)
    assert update.manifest.quality["forgotten"] == {"fingerprints": 3, "versions": [1, 2, 3]}
    assert not {one.digest for one in update.manifest.segments} & {one.digest for one in deleted.manifest.segments}
    whole = forget_fingerprints(update.contents, np.ones(14, bool), [4], origin)
    check_sound(whole)
    assert (whole.manifest.segments, whole.manifest.tombstones, whole.manifest.fingerprints) == ((), (), 0)
    nothing = forget_fingerprints(created.contents, np.zeros(12, bool), [7], origin)
    assert nothing.manifest.segments == created.manifest.segments
    with pytest.raises(BadUpdate, match="no fingerprint of any version"):
        forget_fingerprints(created.contents, np.zeros(12, bool), [], origin)


def test_a_corrected_description_leaves_the_segments_as_they_are(created: Update, cell: Cell, origin: Origin) -> None:
    moved = cell.model_copy(update={"latitude_deg": cell.latitude_deg + 0.001, "yaw": 1.0})
    update = correct_cell(created.contents, moved, origin)
    check_sound(update)
    assert (update.manifest.cell, update.segments) == (moved, ())
    assert update.manifest.segments == created.manifest.segments
    assert update.manifest.change.action == "corrected"


def test_fingerprints_that_stay_on_earth_get_new_metres(created: Update, cell: Cell, origin: Origin) -> None:
    deleted = delete_fingerprints(created.contents, np.arange(12) == 4, origin)
    moved = cell.model_copy(update={"latitude_deg": cell.latitude_deg + 0.001, "longitude_deg": cell.longitude_deg + 1})
    update = correct_cell(deleted.contents, moved, origin, stay=True)
    check_sound(update)
    assert update.manifest.tombstones == ()
    old, new = (LocalFrame(one.latitude_deg, one.longitude_deg) for one in (cell, moved))
    pairs = zip(deleted.contents.positions.tolist(), update.contents.positions.tolist(), strict=True)
    for before, after in pairs:
        np.testing.assert_allclose(old.to_wgs84(*before), new.to_wgs84(*after), atol=1e-7)
    np.testing.assert_array_equal(update.contents.times, deleted.contents.times)
    far = cell.model_copy(update={"latitude_deg": cell.latitude_deg + 3})
    with pytest.raises(BadUpdate, match="100 km"):
        correct_cell(created.contents, far, origin, stay=True)


def test_a_correction_that_contradicts_the_fingerprints_is_refused(created: Update, cell: Cell, origin: Origin) -> None:
    for changes, complaint in (
        ({}, "already"),
        ({"cell_id": "other"}, "id"),
        ({"subcarriers": 7}, "subcarriers"),
        ({"array": AntennaArray(rows=2, columns=4)}, "antennas"),
        ({"area": Area(west=0, south=0, east=1, north=1)}, "area"),
    ):
        with pytest.raises(BadUpdate, match=complaint):
            correct_cell(created.contents, cell.model_copy(update=changes), origin)
    turned = cell.model_copy(update={"array": AntennaArray(rows=4, columns=1)})
    assert correct_cell(created.contents, turned, origin).manifest.cell.array.rows == 4
