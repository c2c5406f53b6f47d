"""The seam between the reference database and wherever its bytes are kept."""

from typing import Protocol

from reference_db.manifest import Manifest


class Store(Protocol):
    """Keeps segments by digest and, for each cell, its manifests and which of them is current.

    A reader sees the old version of a cell or the new one, whatever happens to the writer.
    """

    def cells(self) -> list[str]:
        """The ids of all published cells, sorted."""

    def current(self, cell_id: str) -> Manifest | None:
        """The cell's current manifest, or None where nothing was ever published.

        Raises `CorruptManifest` when there is one that cannot be trusted.
        """

    def publish(self, manifest: Manifest, expected: str | None) -> None:
        """Makes `manifest` current if the current one's digest still is `expected` (None: no cell yet).

        Raises `VersionConflict` otherwise, and `MissingSegment` when a segment was not put first.
        """

    def put_segment(self, data: bytes) -> str:
        """Keeps a segment's bytes for good and returns their digest; putting them again is harmless."""

    def get_segment(self, digest: str) -> bytes:
        """The bytes kept under a digest, as they are: `Segment.from_bytes` verifies them.

        Raises `MissingSegment`.
        """
