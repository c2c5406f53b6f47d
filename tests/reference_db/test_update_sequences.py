"""Random sequences of updates, compared with a model of the cell: a set of rows of a pool."""

from collections.abc import Iterable, Set
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_db import (
    AntennaArray,
    BadFingerprint,
    Cell,
    Contents,
    Fingerprints,
    Manifest,
    Origin,
    Retention,
    Segment,
    Update,
    append_fingerprints,
    apply_retention,
    delete_fingerprints,
    forget_fingerprints,
    replace_cell,
    roll_back,
    set_retention,
)
from reference_db.segment import digest_of
from tests.reference_db.sound_version import check_sound, lower_bounds

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
    st.tuples(st.sampled_from(["append", "append", "delete", "forget", "replace"]), _ROWS),
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
    """Versions as a store would keep them, each with its expected rows and retention."""

    def __init__(self, first: Update, rows: Set[int]) -> None:
        self._bytes: dict[str, bytes] = {}
        self.versions: list[tuple[Contents, Set[int], Retention]] = []
        self.add(first, rows, Retention())

    def add(self, update: Update, rows: Set[int], retention: Retention) -> None:
        check_sound(update)
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


@settings(max_examples=settings.default.max_examples // 2)
@given(first=_ROWS, steps=st.lists(_STEPS, max_size=20))
def test_any_sequence_of_updates_leaves_what_a_plain_set_would_hold(
    first: Set[int], steps: list[tuple[str, Any]]
) -> None:
    origin = Origin("ada", datetime.fromtimestamp(1.7e9, UTC))
    with pytest.MonkeyPatch.context() as monkeypatch:
        lower_bounds(monkeypatch)
        kept = _Kept(replace_cell(None, TINY, _some(first), origin), first)
        for step, what in steps:
            before, rows, retention = kept.versions[-1]
            match step:
                case "append" if what & rows:
                    with pytest.raises(BadFingerprint, match="already"):
                        append_fingerprints(before, _some(what), origin)
                case "append":
                    kept.add(
                        append_fingerprints(before, _some(what), origin), _retained(rows | what, retention), retention
                    )
                case "delete":
                    doomed = np.isin(before.ids, Segment.of(_some(what)).ids)
                    if doomed.any():
                        kept.add(
                            delete_fingerprints(before, doomed, origin), _retained(rows - what, retention), retention
                        )
                case "forget":
                    stored = before.with_deleted().ids
                    doomed = np.isin(stored, Segment.of(_some(what)).ids)
                    if doomed.any():
                        update = forget_fingerprints(before, doomed, [], origin)
                        kept.add(update, _retained(rows - what, retention), retention)
                        assert not np.isin(update.contents.with_deleted().ids, stored[doomed]).any()
                case "replace":
                    kept.add(replace_cell(before.manifest, TINY, _some(what), origin), what, retention)
                case "set retention":
                    kept.add(set_retention(before, what, origin), _retained(rows, what), what)
                case "roll back":
                    target, old_rows, old_retention = kept.versions[what % len(kept.versions)]
                    kept.add(roll_back(before.manifest, target, origin), old_rows, old_retention)
                case "thin":
                    update, left = apply_retention(before, origin), _retained(rows, retention)
                    assert (update is None) == (left == rows)
                    if update is not None:
                        kept.add(update, left, retention)
