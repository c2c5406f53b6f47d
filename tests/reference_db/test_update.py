"""Versions made of versions: what each update keeps, adds and takes, and when it tidies up."""

from collections.abc import Iterable, Set
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_db import (
    AntennaArray,
    BadFingerprint,
    BadUpdate,
    Cell,
    Contents,
    Fingerprints,
    Manifest,
    Origin,
    RequestKey,
    Retention,
    Segment,
    TooFewFingerprints,
    Update,
    appended,
    compaction,
    deleted,
    replaced,
    retention_set,
    rolled_back,
    thinned,
)
from reference_db import update as updates
from reference_db.segment import digest_of
from tests.reference_db.conftest import MakeFingerprints


@pytest.fixture
def created(cell: Cell, make_fingerprints: MakeFingerprints, origin: Origin) -> Update:
    return replaced(None, cell, make_fingerprints(), origin)


@pytest.fixture
def low_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    _lower_bounds(monkeypatch)


def _lower_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tidies up a handful as it does thousands."""
    for name, bound in (("_FEW_INDEXED", 6), ("_MOST_SEGMENTS", 3), ("_FEWEST_DEAD", 3), ("_DEAD_SHARE", 0.25)):
        monkeypatch.setattr(compaction, name, bound)


def _later(origin: Origin, **since: float) -> Origin:
    return replace(origin, now=origin.now + timedelta(**since))


def _check(update: Update) -> None:
    """What holds of every version, whatever made it."""
    manifest, contents = update.manifest, update.contents
    stored = [segment.ids for segment in contents.segments]
    held = np.concatenate([np.zeros(0, np.uint64), *stored])
    assert len(np.unique(held)) == len(held), "a fingerprint lies in two segments"
    assert np.isin(np.array(manifest.tombstones, np.uint64), held).all(), "a tombstone is nobody's"
    assert list(manifest.tombstones) == sorted(set(manifest.tombstones))
    assert all(kept is None or kept.any() for kept in contents.kept), "a segment is wholly dead"
    assert manifest.fingerprints == len(contents) == len(contents.ids)
    assert 0 <= manifest.indexed <= len(manifest.segments)
    assert manifest.indexed or not manifest.segments
    for reference, segment in zip(manifest.segments, contents.segments, strict=True):
        assert (reference.digest, reference.count) == (digest_of(segment.to_bytes()), len(segment))
    survey = manifest.quality["survey"]
    if len(contents):
        assert isinstance(survey, dict)
        assert survey["extent"] == [*contents.positions.min(axis=0), *contents.positions.max(axis=0)]
        assert survey["largest_sigma"] == contents.sigmas.max()
        measured = contents.times[contents.times > 0]
        assert (survey["oldest"], survey["newest"]) == (
            (measured.min(), measured.max()) if len(measured) else (None, None)
        )
    else:
        assert survey is None


def test_a_cell_is_created_with_fingerprints_or_without(created: Update, cell: Cell, origin: Origin) -> None:
    _check(created)
    change = created.manifest.change
    assert (created.manifest.number, created.manifest.parent) == (1, None)
    assert (change.action, change.added, change.removed) == ("created", 12, 0)
    assert created.segments == tuple(segment.to_bytes() for segment in created.contents.segments)
    bare = replaced(None, cell, None, origin)
    _check(bare)
    assert (bare.manifest.segments, bare.segments, bare.manifest.fingerprints) == ((), (), 0)


def test_every_version_says_who_made_it_when_and_why(created: Update, make_fingerprints: MakeFingerprints) -> None:
    request = RequestKey(key="a" * 64, body="b" * 64)
    origin = Origin("bob", created.manifest.created_at + timedelta(hours=1), "second drive", request)
    before = created.contents
    made = [
        replaced(created.manifest, created.manifest.cell, make_fingerprints(3, 1), origin),
        appended(before, make_fingerprints(3, 1), origin),
        deleted(before, np.arange(12) < 3, origin),
        retention_set(before, Retention(max_fingerprints=6), origin),
        thinned(retention_set(before, Retention(max_age_s=1e9), origin).contents, _later(origin, days=20_000)),
        rolled_back(created.manifest, before, origin),
    ]
    actions = ["replaced", "appended", "deleted", "retention set", "thinned", "rolled back"]
    counts = [(3, 12), (3, 0), (0, 3), (0, 6), (0, 12), (12, 12)]
    for update, action, (added, removed) in zip(made, actions, counts, strict=True):
        assert update is not None
        _check(update)
        manifest, change = update.manifest, update.manifest.change
        assert (change.action, change.added, change.removed) == (action, added, removed)
        assert (change.author, change.note, change.request) == ("bob", "second drive", request)
        if action != "thinned":
            assert (manifest.number, manifest.parent) == (2, created.manifest.digest)
            assert manifest.created_at == origin.now


def test_what_is_appended_is_a_segment_of_its_own(
    created: Update, make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    update = appended(created.contents, make_fingerprints(1, 1), origin)
    assert update.manifest.segments[0] == created.manifest.segments[0]
    assert update.contents.segments[0] is created.contents.segments[0]
    assert [digest_of(data) for data in update.segments] == [update.manifest.segments[1].digest]
    np.testing.assert_array_equal(update.contents.ids[:12], created.contents.ids)


def test_what_the_cell_holds_cannot_be_appended_again(
    created: Update, make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    known, new = make_fingerprints(), make_fingerprints(3, 1)
    mixed = Fingerprints(
        *(
            np.concatenate([getattr(new, name), getattr(known, name)[4:6]])
            for name in ("csi", "positions", "times", "sigmas")
        )
    )
    with pytest.raises(BadFingerprint, match="holds this fingerprint already") as caught:
        appended(created.contents, mixed, origin)
    assert caught.value.row == 3
    with pytest.raises(TooFewFingerprints):
        appended(created.contents, make_fingerprints(0), origin)
    with pytest.raises(BadFingerprint, match="antennas"):
        appended(created.contents, replace(new, csi=new.csi[:, :2]), origin)


def test_what_is_deleted_is_only_marked_and_comes_back_where_it_was(
    created: Update, make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    left = deleted(created.contents, np.isin(np.arange(12), (2, 5)), origin)
    _check(left)
    assert left.segments == ()
    assert set(left.manifest.tombstones) == set(created.contents.ids[[2, 5]].tolist())
    some = make_fingerprints()
    again = Fingerprints(some.csi[4:6], some.positions[4:6], some.times[4:6], some.sigmas[4:6])
    with pytest.raises(BadFingerprint):
        appended(left.contents, again, origin)
    again = Fingerprints(some.csi[5:6], some.positions[5:6], some.times[5:6], some.sigmas[5:6])
    back = appended(left.contents, again, origin)
    _check(back)
    assert back.segments == ()
    assert back.manifest.segments == created.manifest.segments
    np.testing.assert_array_equal(back.contents.ids, np.delete(created.contents.ids, 2))


def test_a_deletion_that_means_nobody_is_refused(created: Update, origin: Origin) -> None:
    with pytest.raises(BadUpdate):
        deleted(created.contents, np.zeros(12, np.bool_), origin)


def test_a_cell_may_lose_all_its_fingerprints_and_get_new_ones(
    created: Update, make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    bare = deleted(created.contents, np.ones(12, np.bool_), origin)
    _check(bare)
    assert (bare.manifest.segments, bare.manifest.tombstones) == ((), ())
    for fingerprints in (make_fingerprints(), make_fingerprints(3, 1)):
        update = appended(bare.contents, fingerprints, origin)
        _check(update)
        np.testing.assert_array_equal(update.contents.ids, Segment.of(fingerprints).ids)


def test_a_replacement_takes_the_description_and_keeps_the_retention(
    created: Update, make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    before = retention_set(created.contents, Retention(max_fingerprints=50), origin)
    moved = created.manifest.cell.model_copy(update={"yaw": 1.0})
    update = replaced(before.manifest, moved, make_fingerprints(4, 1), origin)
    _check(update)
    assert update.manifest.cell == moved
    assert update.manifest.retention == Retention(max_fingerprints=50)
    with pytest.raises(BadUpdate, match="takes fingerprints"):
        replaced(before.manifest, moved, None, origin)
    other = moved.model_copy(update={"cell_id": "other"})
    with pytest.raises(BadUpdate, match="cannot become"):
        replaced(before.manifest, other, make_fingerprints(4, 1), origin)


def test_retention_takes_effect_at_once_and_with_each_update(
    created: Update, make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    few = retention_set(created.contents, Retention(max_fingerprints=5), origin)
    _check(few)
    newest = np.sort(np.argsort(created.contents.times)[-5:])
    np.testing.assert_array_equal(few.contents.ids, created.contents.ids[newest])
    fresh = replace(make_fingerprints(3, 1), times=np.full(3, 1.8e9))
    update = appended(few.contents, fresh, origin)
    _check(update)
    assert (update.manifest.change.added, update.manifest.change.removed) == (3, 3)
    assert len(update.contents) == 5
    assert np.isin(Segment.of(fresh).ids, update.contents.ids).all()
    stale = replace(make_fingerprints(2, 2), times=np.ones(2))
    update = appended(few.contents, stale, origin)  # older than all that is kept
    _check(update)
    assert (update.manifest.change.added, update.manifest.change.removed) == (2, 2)
    np.testing.assert_array_equal(update.contents.ids, few.contents.ids)
    assert update.segments == ()


def test_thinning_makes_a_version_only_where_something_has_grown_old(created: Update, origin: Origin) -> None:
    times = created.contents.times
    age = origin.now.timestamp() - np.median(times)
    month = retention_set(created.contents, Retention(max_age_s=age + 3600), origin)
    assert len(month.contents) == 12
    assert thinned(month.contents, origin) is None
    update = thinned(month.contents, _later(origin, hours=1))
    assert update is not None
    _check(update)
    np.testing.assert_array_equal(update.contents.ids, created.contents.ids[times >= np.median(times)])


def test_a_rollback_is_the_old_version_with_a_new_number(
    created: Update, make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    target = created.measured({"radius": 0.5})
    assert target.manifest.digest  # asked for, as of any version that was published
    now = replaced(
        retention_set(target.contents, Retention(max_fingerprints=50), origin).manifest,
        created.manifest.cell.model_copy(update={"yaw": 1.0}),
        make_fingerprints(4, 1),
        origin,
    )
    back = rolled_back(now.manifest, target.contents, origin)
    _check(back)
    manifest = back.manifest
    assert (manifest.number, manifest.parent) == (now.manifest.number + 1, now.manifest.digest)
    for name in ("cell", "segments", "indexed", "tombstones", "retention", "quality"):
        assert getattr(manifest, name) == getattr(target.manifest, name)
    assert manifest.digest != target.manifest.digest
    assert back.segments == ()


def test_a_version_reads_the_same_from_its_bytes(
    created: Update, make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    update = deleted(appended(created.contents, make_fingerprints(3, 1), origin).contents, np.arange(15) < 2, origin)
    written = {digest_of(data): data for data in (one.to_bytes() for one in update.contents.segments)}
    segments = [Segment.from_buffer(written[one.digest], one.digest) for one in update.manifest.segments]
    read = Contents.of(type(update.manifest).from_bytes(update.manifest.to_bytes(), update.manifest.digest), segments)
    np.testing.assert_array_equal(read.ids, update.contents.ids)
    following = appended(read, make_fingerprints(2, 2), origin)  # and goes on the same
    assert following.manifest == appended(update.contents, make_fingerprints(2, 2), origin).manifest


def test_indices_grow_with_what_is_appended_and_are_made_anew_in_time(
    created: Update,
    make_fingerprints: MakeFingerprints,
    origin: Origin,
    low_bounds: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compaction, "_MOST_SEGMENTS", 32)
    update, indexed = created, []
    for seed in range(1, 5):
        update = appended(update.contents, make_fingerprints(1, seed), origin)
        indexed.append(update.manifest.indexed)
    assert indexed == [1, 1, 1, 5]


def test_many_small_segments_are_joined(
    created: Update, make_fingerprints: MakeFingerprints, origin: Origin, low_bounds: None
) -> None:
    update, most = created, 0
    for seed in range(1, 40):
        update = appended(update.contents, make_fingerprints(1, seed), origin)
        most = max(most, len(update.manifest.segments))
        _check(update)
    assert most <= 6  # three that are indexed and three that are not
    should_be = [created.contents.ids, *(Segment.of(make_fingerprints(1, seed)).ids for seed in range(1, 40))]
    np.testing.assert_array_equal(update.contents.ids, np.concatenate(should_be))


def test_segments_are_not_joined_beyond_what_is_moved_as_one_value(
    created: Update,
    make_fingerprints: MakeFingerprints,
    origin: Origin,
    low_bounds: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(updates, "MOST_BYTES", 15 * created.contents.segments[0].csi[:1].nbytes)
    update = created
    for seed in range(1, 20):
        update = appended(update.contents, make_fingerprints(2, seed), origin)
        _check(update)
        assert all(len(segment) <= 15 for segment in update.contents.segments)
    assert len(update.contents.segments) <= 8


def test_many_dead_are_left_out_for_good(
    created: Update, make_fingerprints: MakeFingerprints, origin: Origin, low_bounds: None
) -> None:
    both = appended(created.contents, make_fingerprints(3, 1), origin)
    marked = deleted(both.contents, np.arange(15) < 3, origin)
    assert (len(marked.manifest.tombstones), marked.segments) == (3, ())
    rewritten = deleted(marked.contents, np.arange(12) < 1, origin)
    _check(rewritten)
    assert rewritten.manifest.tombstones == ()
    assert [reference.count for reference in rewritten.manifest.segments] == [8, 3]
    assert rewritten.contents.segments[1] is both.contents.segments[1]
    np.testing.assert_array_equal(rewritten.contents.ids, both.contents.ids[4:])


# Random sequences of updates, beside a cell that is a plain set of rows of a pool.

POOL = 48
TINY = Cell(
    cell_id="tiny",
    latitude_deg=0,
    longitude_deg=0,
    height=10,
    yaw=0,
    array=AntennaArray(rows=1, columns=1),
    carrier_frequency=3.5e9,
    bandwidth=40e6,
    subcarriers=2,
)
_ROWS = st.sets(st.integers(0, POOL - 1), min_size=1, max_size=8)
_POLICIES = [Retention(), Retention(max_fingerprints=9), Retention(min_spacing_m=0.8), Retention(max_age_s=30.5)]
_STEPS = st.one_of(
    st.tuples(st.sampled_from(["append", "append", "delete", "replace"]), _ROWS),
    st.tuples(st.just("set retention"), st.sampled_from(_POLICIES)),
    st.tuples(st.just("roll back"), st.integers(0, 30)),
    st.tuples(st.just("thin"), st.none()),
)


@cache
def _pool() -> Fingerprints:
    noise = np.random.default_rng(0)
    csi = noise.normal(size=(POOL, 1, 2, 2)).astype(np.float32).view(np.complex64)[..., 0]
    times = 1.7e9 - noise.permutation(POOL).astype(np.float64)
    return Fingerprints(csi, noise.uniform(0, 6, (POOL, 2)).astype(np.float32), times, np.full(POOL, 0.1, np.float32))


def _some(rows: Iterable[int]) -> Fingerprints:
    pool, chosen = _pool(), sorted(rows)
    return Fingerprints(pool.csi[chosen], pool.positions[chosen], pool.times[chosen], pool.sigmas[chosen])


def _retained(rows: Set[int], retention: Retention) -> Set[int]:
    held = sorted(rows)
    kept = retention.kept(_pool().positions[held], _pool().times[held], 1.7e9)
    return {row for row, stays in zip(held, kept, strict=True) if stays}


class _Kept:
    """Versions as a store would keep them, each with the rows and the policy that it should have."""

    def __init__(self, first: Update, rows: Set[int]) -> None:
        self._bytes: dict[str, bytes] = {}
        self.versions: list[tuple[Contents, Set[int], Retention]] = []
        self.add(first, rows, Retention())

    def add(self, update: Update, rows: Set[int], retention: Retention) -> None:
        _check(update)
        manifest = Manifest.from_bytes(update.manifest.to_bytes(), update.manifest.digest)
        self._bytes |= {digest_of(data): data for data in update.segments}
        segments = [Segment.from_buffer(self._bytes[one.digest], one.digest) for one in manifest.segments]
        contents = Contents.of(manifest, segments)
        assert set(contents.ids.tolist()) == set(Segment.of(_pool()).ids[sorted(rows)].tolist())
        assert manifest.retention == retention
        assert manifest.number == len(self.versions) + 1
        if self.versions:
            before, change = self.versions[-1][0], manifest.change
            assert manifest.parent == before.manifest.digest
            assert len(before) + change.added - change.removed == len(contents)
        self.versions.append((contents, rows, retention))


@settings(max_examples=60, deadline=None)
@given(first=_ROWS, steps=st.lists(_STEPS, max_size=20))
def test_any_sequence_of_updates_leaves_what_a_plain_set_would_hold(
    first: Set[int], steps: list[tuple[str, Any]]
) -> None:
    origin = Origin("ada", datetime.fromtimestamp(1.7e9, UTC))
    with pytest.MonkeyPatch.context() as monkeypatch:
        _lower_bounds(monkeypatch)
        kept = _Kept(replaced(None, TINY, _some(first), origin), first)
        for step, what in steps:
            before, rows, retention = kept.versions[-1]
            match step:
                case "append" if what & rows:
                    with pytest.raises(BadFingerprint, match="already"):
                        appended(before, _some(what), origin)
                case "append":
                    kept.add(appended(before, _some(what), origin), _retained(rows | what, retention), retention)
                case "delete":
                    doomed = np.isin(before.ids, Segment.of(_some(what)).ids)
                    if doomed.any():
                        kept.add(deleted(before, doomed, origin), _retained(rows - what, retention), retention)
                case "replace":
                    kept.add(replaced(before.manifest, TINY, _some(what), origin), what, retention)
                case "set retention":
                    kept.add(retention_set(before, what, origin), _retained(rows, what), what)
                case "roll back":
                    target, old_rows, old_retention = kept.versions[what % len(kept.versions)]
                    kept.add(rolled_back(before.manifest, target, origin), old_rows, old_retention)
                case "thin":
                    update, left = thinned(before, origin), _retained(rows, retention)
                    assert (update is None) == (left == rows)
                    if update is not None:
                        kept.add(update, left, retention)
