"""The reference database: every cell's current version, held in memory."""

from threading import Lock
from weakref import WeakValueDictionary

from reference_db.cell_version import CellVersion
from reference_db.errors import UnknownCell
from reference_db.segment import Segment
from reference_db.store import Store


class ReferenceDatabase:
    """Serves cell versions out of a store; safe to share between threads.

    A cell is loaded when first asked for and held from then on. Whoever asks while it is being loaded waits
    for that one load; other cells do not wait.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._versions: dict[str, CellVersion] = {}
        # Weak, or asking for cells that do not exist would fill the memory with their locks.
        self._locks: WeakValueDictionary[str, Lock] = WeakValueDictionary()
        self._locks_lock = Lock()

    def cells(self) -> list[str]:
        """The ids of all cells of the store, sorted, loaded or not."""
        return self._store.cells()

    def cell(self, cell_id: str) -> CellVersion:
        """The version of the cell that is held; hold on to it for a whole request.

        Raises `UnknownCell`, and `CorruptManifest`, `MissingSegment` or `CorruptSegment` when loading fails.
        """
        version = self._versions.get(cell_id)
        if version is None:
            with self._load_lock(cell_id):
                version = self._versions.get(cell_id)  # somebody may have loaded it while we waited
                if version is None:
                    version = self._load(cell_id)
        return version

    def reload(self, cell_id: str) -> CellVersion:
        """Holds the store's current version from now on and returns it; raises what `cell` raises.

        When that fails the version held before stays in service.
        """
        with self._load_lock(cell_id):
            return self._load(cell_id)

    def _load(self, cell_id: str) -> CellVersion:
        manifest = self._store.current(cell_id)
        if manifest is None:
            raise UnknownCell(cell_id)
        held = self._versions.get(cell_id)
        if held is not None and held.manifest.digest == manifest.digest:
            return held
        digests = [segment.digest for segment in manifest.segments]
        segments = [Segment.from_bytes(self._store.get_segment(digest), digest) for digest in digests]
        version = self._versions[cell_id] = CellVersion.assemble(manifest, segments)
        return version

    def _load_lock(self, cell_id: str) -> Lock:
        """The cell's lock; whoever waits for it or holds it keeps it alive, so that all share one."""
        with self._locks_lock:
            return self._locks.setdefault(cell_id, Lock())
