"""Invariants of every version."""

import numpy as np
import pytest

from reference_db import Update, version_plan
from reference_db.segment import digest_of


def check_sound(update: Update) -> None:
    """Checks that the parts of an update are consistent."""
    manifest, contents = update.manifest, update.contents
    stored = [segment.ids for segment in contents.segments]
    held = np.concatenate([np.zeros(0, np.uint64), *stored])
    assert len(np.unique(held)) == len(held), "a fingerprint is in two segments"
    assert np.isin(np.array(manifest.tombstones, np.uint64), held).all(), "a tombstone matches no fingerprint"
    assert list(manifest.tombstones) == sorted(set(manifest.tombstones))
    assert all(kept is None or kept.any() for kept in contents.kept), "all fingerprints of a segment are deleted"
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


def lower_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lowers the limits of compaction, so that a few fingerprints are compacted like thousands."""
    for name, bound in (("_FEW_INDEXED", 6), ("_MOST_SEGMENTS", 3), ("_FEWEST_DEAD", 3), ("_DEAD_SHARE", 0.25)):
        monkeypatch.setattr(version_plan, name, bound)
