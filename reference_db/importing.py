"""Bringing fingerprints into a store as a new version of their cell."""

from collections.abc import Mapping
from datetime import datetime

from pydantic import JsonValue

from reference_db.cell import Cell
from reference_db.fingerprints import Fingerprints, check_fingerprints
from reference_db.manifest import Manifest, SegmentReference
from reference_db.segment import Segment, digest_of
from reference_db.store import Store


def import_fingerprints(
    store: Store,
    cell: Cell,
    fingerprints: Fingerprints,
    quality: Mapping[str, JsonValue],
    note: str,
    now: datetime,
) -> Manifest:
    """Creates the cell, or replaces its description and all its fingerprints, and returns the new manifest.

    Everything is checked before anything is written. `now` must know its time zone. Raises `BadFingerprint`
    or `TooFewFingerprints` for fingerprints that do not fit the cell, and `VersionConflict` when somebody
    else published the cell meanwhile; then the cell is as it was.
    """
    check_fingerprints(fingerprints, cell)
    data = Segment.of(fingerprints).to_bytes()
    parent = store.current(cell.cell_id)
    manifest = Manifest(
        cell=cell,
        number=parent.number + 1 if parent else 1,
        parent=parent.digest if parent else None,
        segments=(SegmentReference(digest=digest_of(data), count=len(fingerprints)),),
        quality=dict(quality),
        created_at=now,
        note=note,
    )
    store.put_segment(data)
    store.publish(manifest, expected=manifest.parent)
    return manifest
