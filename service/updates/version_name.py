"""Versions by the names that people give them: `3-ab12cd34ef56`, or `3`."""

import re

from reference_db.manifest import Manifest
from reference_db.stores.store import Store
from service.errors import VersionNotFound
from service.updates.cells import current_of

_NAME = re.compile(r"([0-9]{1,10})(-[0-9a-f]{1,64})?")


def find_version(store: Store, cell_id: str, name: str | None) -> Manifest:
    """A version of a cell, the current one for None. Raises `CellNotFound`, `VersionNotFound`, and what stores raise.

    Of the digest any beginning will do. Blocks.
    """
    if name is None:
        return current_of(store, cell_id)
    found = _NAME.fullmatch(name)
    if found is None:
        raise VersionNotFound("/version", "neither a version's name nor its number")
    if not store.newest(cell_id):
        current_of(store, cell_id)  # says that there is no such cell
    manifest = store.manifest(cell_id, int(found[1]))
    if not manifest.digest.startswith((found[2] or "-")[1:]):
        raise VersionNotFound("/version", f"version {found[1]} is another one")
    return manifest
