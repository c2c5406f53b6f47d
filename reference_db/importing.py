"""Imports fingerprints into a store as a whole cell."""

from collections.abc import Mapping

from pydantic import JsonValue

from reference_db.cell import Cell
from reference_db.fingerprints import Fingerprints
from reference_db.manifest import Manifest
from reference_db.stores.store import Store
from reference_db.update import Origin, replace_cell


def import_fingerprints(
    store: Store, cell: Cell, fingerprints: Fingerprints, quality: Mapping[str, JsonValue], origin: Origin
) -> Manifest:
    """Creates the cell, or replaces its description and all its fingerprints, and returns the new manifest.

    Checks everything before it writes. Raises `BadFingerprint` or `TooFewFingerprints` for fingerprints that do not
    fit the cell, and `VersionConflict` if another writer published the cell in the meantime. The cell is unchanged
    then.
    """
    before = store.current(cell.cell_id)
    update = replace_cell(before, cell, fingerprints, origin).with_quality(dict(quality))
    store.publish(update.manifest, update.segments, None if before is None else before.digest)
    return update.manifest
