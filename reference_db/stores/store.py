"""The protocol of a store: where the reference database keeps its bytes."""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from reference_db.manifest import Manifest
from reference_db.truths import ScoredTruth, TruthCounts, TruthGroup

Buffer = bytes | memoryview


class Removal(NamedTuple):
    """The versions that a store removed, with the segments that no other version lists, and their size in bytes."""

    versions: tuple[int, ...] = ()
    segments: int = 0
    bytes: int = 0


class Store(Protocol):
    """Keeps the versions of each cell: manifests, numbered from 1, and the segments that they list.

    Every version has a number above that of the version before: the next one, except in a restored backup, which lacks
    the versions that had been removed. Old versions may be removed, so numbers may be missing, but never that of the
    current version.

    A reader sees either the old version of a cell or the new one, even if the writer is killed. Leftovers of a killed
    writer disappear without an operator. Any thread may call any method. All methods raise `StoreUnavailable` if the
    store cannot be reached. An id that no cell can have is treated as that of a cell that does not exist.
    """

    def cells(self) -> list[str]:
        """The ids of all published cells, sorted.

        Includes cells of which the store cannot tell, because they are damaged or on a node that does not answer: then
        `current` raises the reason.
        """

    def misses_cells(self) -> bool:
        """Whether the last `cells` may have left out cells, because a part of the store did not answer. Does not wait.

        Without the list of all cells, the cells of such a part are known as far as `cells` has listed them before.
        """

    def current(self, cell_id: str) -> Manifest | None:
        """The current manifest of the cell, or None if the cell was never published.

        Raises `CorruptManifest` if the manifest is damaged.
        """

    def newest(self, cell_id: str) -> str | None:
        """The digest of the cell's current manifest, or None if there is none. Cheap enough for polling.

        A number would not do: a version that a store lost may have been published again with other contents.
        Raises `CorruptManifest`.
        """

    def manifest(self, cell_id: str, number: int) -> Manifest:
        """The manifest of a version. Raises `UnknownVersion` if there is none, and `CorruptManifest`."""

    def numbers(self, cell_id: str) -> list[int]:
        """The numbers of the versions that the store keeps, ascending. Empty for an unknown cell."""

    def publish(
        self, manifest: Manifest, segments: Iterable[Buffer], expected: str | None, without: Collection[int] = ()
    ) -> None:
        """Makes `manifest` current if the digest of the current manifest is `expected` (None: the cell is new).

        Removes the versions with the numbers `without` in the same step, as `remove_versions` does. `segments` are the
        bytes of the segments that this manifest lists and the current one does not; one is taken at a time. A rollback
        may list segments of any version that the store keeps. When this method returns, only the loss of the disk or of
        Redis's files can lose the version.

        Raises `VersionConflict` if another writer was first, and `MissingSegment` if the manifest lists a segment that
        is neither given nor stored. Nothing has changed then. Raises `ValueError` if the number of the manifest is not
        above that of the current one.
        """

    def get_segment(self, cell_id: str, digest: str) -> Buffer:
        """The stored bytes of a segment, unverified: `Segment.from_buffer` checks them. Raises `MissingSegment`."""

    def check(self) -> None:
        """Raises `StoreUnavailable` unless the store can be read. An empty store is no fault, a missing one is."""

    def shard(self, cell_id: str) -> str:
        """Names the part of the store that holds the cell. If one cell of a part is unavailable, so are the others.

        Does not wait, except that the first call may connect. Raises `StoreUnavailable`.
        """

    def remove_versions(self, cell_id: str, numbers: Collection[int], *, dry_run: bool = False) -> Removal:
        """Removes versions, and the segments that no other version of the cell lists.

        Skips the current version and numbers that the store does not keep. A reader that holds a removed version keeps
        its segments; one that is still reading them gets `MissingSegment`. A killed call has removed a version as a
        whole or not at all. `dry_run` removes nothing and tells what would be removed. Works on a full store. May raise
        `CorruptManifest` if a version that stays is damaged, because its segments are then unknown.
        """

    def remove_cell(self, cell_id: str, expected: str | None) -> Removal:
        """Removes a cell with all its versions if the digest of the current manifest is `expected` (None: any).

        The next version to publish then has number 1. Removes nothing if there is no such cell. Raises
        `VersionConflict`.
        """

    def is_removed(self, cell_id: str) -> bool:
        """Whether `remove_cell` removed the cell, and no version was published since.

        False for a cell that was never published, and for one that disappeared with the data of the store.
        """

    def add_truths(self, cell_id: str, truths: Sequence[ScoredTruth]) -> list[bool]:
        """Adds truths to the counts that the store keeps of a cell; whether each was counted.

        A truth whose name is among those counted last is not counted again, and none is where there is no such cell.
        Any number of writers may add at the same time. The oldest groups go where there are more than `MOST_GROUPS`.
        `remove_cell` removes the counts too. Raises `CorruptTruths`.
        """

    def read_truths(self, cell_id: str) -> dict[TruthGroup, TruthCounts]:
        """The counts of a cell's truths. Empty where there are none. Raises `CorruptTruths`."""

    def close(self) -> None:
        """Closes connections. Do not use the store afterwards."""


@runtime_checkable
class News(Protocol):
    """A store that also announces new versions, so that its readers need not poll it.

    Announcements can get lost, together with a connection or with the server that keeps them. Readers that follow the
    news must still look at the current versions from time to time.
    """

    def changed(self, timeout_s: float) -> set[str]:
        """Returns the ids of the cells that were published since the last call.

        Waits for the first announcement, at most `timeout_s` seconds. The first call starts to listen: announcements
        from before that call are not returned. Each store object keeps its own place in the news. Call this method
        from one thread only. Raises `StoreUnavailable`; the next call then continues where the last one stopped.
        """
