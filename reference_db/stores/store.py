"""The seam between the reference database and wherever its bytes are kept."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from reference_db.manifest import Manifest

Buffer = bytes | memoryview


class Store(Protocol):
    """Keeps, for each cell, its versions: manifests, numbered from 1 without a gap, and the segments they list.

    A reader sees the old version of a cell or the new one, whatever happens to the writer; what a writer left behind
    that was killed disappears by itself. All methods may be called by any thread, and raise `StoreUnavailable` where
    the bytes cannot be reached. Names that no cell can have are names of cells that are not there.
    """

    def cells(self) -> list[str]:
        """The ids of all published cells, sorted."""

    def current(self, cell_id: str) -> Manifest | None:
        """The cell's current manifest, or None where nothing was ever published.

        Raises `CorruptManifest` when there is one that cannot be trusted.
        """

    def newest(self, cell_id: str) -> int:
        """The number of the cell's current version, 0 where there is none: a question to be asked often."""

    def manifest(self, cell_id: str, number: int) -> Manifest:
        """A version by its number. Raises `UnknownVersion` where there is none, and `CorruptManifest`."""

    def numbers(self, cell_id: str) -> list[int]:
        """The numbers of the versions that are kept, rising; of a cell that is not there none."""

    def publish(self, manifest: Manifest, segments: Sequence[bytes], expected: str | None) -> None:
        """Makes `manifest` current if the current one's digest still is `expected` (None: no cell yet).

        `segments` are the bytes of those that the manifest lists and the current one does not; a rollback may list
        segments of any version that is kept. When it returns nothing short of losing the disk, or Redis' own files,
        loses the version. Raises `VersionConflict` when somebody else was first, and `MissingSegment` when a segment
        is listed that is neither given nor kept; then nothing has changed. Raises `ValueError` for a manifest whose
        number is not the next.
        """

    def get_segment(self, cell_id: str, digest: str) -> Buffer:
        """The bytes kept under a digest, as they are: `Segment.from_buffer` verifies them. Raises `MissingSegment`."""

    def close(self) -> None:
        """Gives back connections; the store is not used any more."""


@runtime_checkable
class News(Protocol):
    """A store that also announces new versions, so that its readers need not poll it.

    Announcements can get lost, together with a connection or with the server that keeps them. Readers that follow the
    news must still look at the current versions from time to time.
    """

    def changed(self, timeout_s: float) -> set[str]:
        """Returns the ids of the cells that anybody published since the last call.

        Waits for the first announcement, at most `timeout_s` seconds. The first call starts to listen: announcements
        from before that call are not returned. Each store object keeps its own place in the news. Call this method
        from one thread only. Raises `StoreUnavailable`; the next call then continues where the last one stopped.
        """
