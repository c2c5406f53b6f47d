"""Which old versions a store keeps, and which versions a reader must drop."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from reference_db import (
    DirectoryStore,
    HistoryPolicy,
    Manifest,
    Origin,
    append_fingerprints,
    collect_history,
    forget_fingerprints,
    read_contents,
    replace_cell,
)
from reference_db.cell import Cell
from reference_db.history import find_expired, is_withdrawn
from tests.reference_db.conftest import MakeFingerprints

_START = datetime(2026, 1, 1, tzinfo=UTC)
_HOUR = timedelta(hours=1)


def _publish_hourly(store: DirectoryStore, cell: Cell, make: MakeFingerprints, versions: int) -> list[Manifest]:
    """Version n is published n hours after the start; version 1 at the start."""
    manifests: list[Manifest] = []
    for number in range(versions):
        origin = Origin("ada", _START + number * _HOUR)
        before = store.current(cell.cell_id)
        update = (
            replace_cell(None, cell, make(), origin)
            if before is None
            else append_fingerprints(read_contents(store, before), make(2, number), origin)
        )
        store.publish(update.manifest, update.segments, update.manifest.parent)
        manifests.append(update.manifest)
    return manifests


@pytest.mark.parametrize(
    ("policy", "expired"),
    [
        (HistoryPolicy(), []),
        (HistoryPolicy(versions=10), []),
        (HistoryPolicy(versions=4), [1, 2]),
        (HistoryPolicy(versions=1), [1, 2, 3, 4]),  # version 5 was replaced half an hour ago
        (HistoryPolicy(versions=1, grace_s=0), [1, 2, 3, 4, 5]),
        (HistoryPolicy(max_age_s=9000), [1, 2]),  # replaced 4.5 and 3.5 hours ago
        (HistoryPolicy(versions=3, max_age_s=9000), [1, 2, 3]),
        (HistoryPolicy(versions=10, max_age_s=1), [1, 2, 3, 4]),
        (HistoryPolicy(versions=3, grace_s=4 * 3600), [1]),
    ],
)
def test_versions_expire_by_count_and_by_age(
    store: DirectoryStore,
    cell: Cell,
    make_fingerprints: MakeFingerprints,
    policy: HistoryPolicy,
    expired: list[int],
) -> None:
    _publish_hourly(store, cell, make_fingerprints, 6)
    now = _START + 5.5 * _HOUR
    assert find_expired(store, cell.cell_id, policy, now) == expired
    preview = collect_history(store, cell.cell_id, policy, now, dry_run=True)
    assert store.numbers(cell.cell_id) == [1, 2, 3, 4, 5, 6]
    assert collect_history(store, cell.cell_id, policy, now) == preview
    assert list(preview.versions) == expired
    assert store.numbers(cell.cell_id) == [number for number in range(1, 7) if number not in expired]


def test_a_cell_that_is_updated_every_minute_does_not_grow_for_ever(
    store: DirectoryStore, cell: Cell, make_fingerprints: MakeFingerprints
) -> None:
    policy, most = HistoryPolicy(versions=5, grace_s=600), 0
    for minute in range(40):
        now = _START + timedelta(minutes=minute)
        before = store.current(cell.cell_id)
        update = replace_cell(before, cell, make_fingerprints(2, minute), Origin("ada", now))
        store.publish(update.manifest, update.segments, update.manifest.parent)
        collect_history(store, cell.cell_id, policy, now)
        most = max(most, len(store.numbers(cell.cell_id)))
    assert most == 11  # ten minutes of grace


def test_a_damaged_version_does_not_keep_the_others(
    store: DirectoryStore, cell: Cell, make_fingerprints: MakeFingerprints
) -> None:
    manifests = _publish_hourly(store, cell, make_fingerprints, 5)
    (store._folder(cell.cell_id).version(2) / manifests[1].digest).unlink()
    collect_history(store, cell.cell_id, HistoryPolicy(versions=2), _START + 9 * _HOUR)
    assert store.numbers(cell.cell_id) == [4, 5]


def test_a_reader_must_drop_a_version_that_was_forgotten_or_whose_cell_was_removed(
    store: DirectoryStore, cell: Cell, make_fingerprints: MakeFingerprints, origin: Origin
) -> None:
    first, second = _publish_hourly(store, cell, make_fingerprints, 2)
    assert not is_withdrawn(store, first)
    store.remove_versions(cell.cell_id, [1])
    assert not is_withdrawn(store, first)  # collected: a reader that cannot load version 2 may keep it
    before = read_contents(store, second)
    update = forget_fingerprints(before, np.arange(len(before)) == 0, [2], replace(origin, now=_START + 3 * _HOUR))
    store.publish(update.manifest, update.segments, second.digest, update.without)
    assert is_withdrawn(store, second)
    assert not is_withdrawn(store, first)
    assert not is_withdrawn(store, update.manifest)
    store.remove_cell(cell.cell_id, None)
    assert is_withdrawn(store, update.manifest)
    again = replace_cell(None, cell, None, replace(origin, now=_START + 4 * _HOUR))
    store.publish(again.manifest, (), None)
    assert is_withdrawn(store, update.manifest)
    assert not is_withdrawn(store, again.manifest)


def test_a_reader_keeps_its_version_if_the_store_lost_its_data(
    store: DirectoryStore, cell: Cell, make_fingerprints: MakeFingerprints, tmp_path: Path
) -> None:
    (held,) = _publish_hourly(store, cell, make_fingerprints, 1)
    assert not is_withdrawn(DirectoryStore(tmp_path / "empty"), held)
