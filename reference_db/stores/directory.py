"""A store in a directory of the local file system.

    cells/<cell_id>/versions/<number>/manifest.json
    cells/<cell_id>/versions/<number>/<digest of the manifest>
    cells/<cell_id>/versions/<number>/<digest>.safetensors    each segment that the manifest lists
    cells/<cell_id>/versions/<number>/without                 numbers of versions that this version removes
    cells/<cell_id>/versions/<number>.removed                 a version that is being removed
    cells/<cell_id>/drafts/                                   versions that are being written
    cells/<cell_id>/removed/                                  all versions of a cell that is being removed
    cells/<cell_id>/truths.json                               what surveyed truths say about answers
    cells/<cell_id>/tombstone                                 the cell was removed, unless there are versions
    cells/<cell_id>/lock                                      held while publishing, removing and counting truths

The folder of a version contains everything that the version needs. Segments shared with earlier versions are hard links
to one file. A writer writes the folder as a draft and publishes it by renaming it to its number. A version is removed
by renaming its folder. A killed writer leaves drafts, renamed folders and versions that were to be removed; the next
process that holds the lock removes them.
"""

import contextlib
import errno
import mmap
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from reference_db.cell_id import CELL_ID_PATTERN
from reference_db.durable_file import FORBIDDEN, NO_ROOM, make_directory, sync_directory
from reference_db.errors import (
    CorruptManifest,
    MissingSegment,
    StoreForbidden,
    StoreFull,
    StoreMissing,
    StoreUnavailable,
    UnknownVersion,
    VersionConflict,
)
from reference_db.manifest import Manifest
from reference_db.stores.cell_folder import DIGEST, CellFolder
from reference_db.stores.directory_truths import add_truths, read_truths
from reference_db.stores.store import Buffer, Removal
from reference_db.truths import ScoredTruth, TruthCounts, TruthGroup

_CELL_ID = re.compile(CELL_ID_PATTERN.removeprefix("^").removesuffix("$"))


class DirectoryStore:
    """The default `Store`. Any number of threads and processes on one machine may share the directory.

    Segments are mapped into memory, so the operating system loads and evicts their pages as needed. Opening the store
    removes what killed writers left.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._cells = root / "cells"
        for cell_id in self._cell_folders():
            self._remove_abandoned(cell_id)

    def cells(self) -> list[str]:
        return [cell_id for cell_id in self._cell_folders() if self._may_be_published(cell_id)]

    def misses_cells(self) -> bool:
        return False

    def current(self, cell_id: str) -> Manifest | None:
        while numbers := self.numbers(cell_id):
            try:
                return self.manifest(cell_id, numbers[-1])
            except UnknownVersion:
                continue  # removed meanwhile
        return None

    def newest(self, cell_id: str) -> str | None:
        numbers = self.numbers(cell_id)
        if not numbers:
            return None
        with _translate_errors():
            try:
                names = os.listdir(self._folder(cell_id).version(numbers[-1]))
            except FileNotFoundError:  # the cell was removed meanwhile
                return None
        return _find_digest(cell_id, numbers[-1], names)

    def manifest(self, cell_id: str, number: int) -> Manifest:
        if not _CELL_ID.fullmatch(cell_id):
            raise UnknownVersion(cell_id, number)
        folder = self._folder(cell_id).version(number)
        with _translate_errors():
            try:
                names = os.listdir(folder)
                data = (folder / "manifest.json").read_bytes()
            except FileNotFoundError:
                if folder.is_dir():
                    raise CorruptManifest(f"cell {cell_id!r}: the manifest of version {number} is missing") from None
                raise UnknownVersion(cell_id, number) from None
        manifest = Manifest.from_bytes(data, _find_digest(cell_id, number, names))
        if (manifest.cell.cell_id, manifest.number) != (cell_id, number):
            raise CorruptManifest(f"cell {cell_id!r}: version {number} has the manifest of another version")
        return manifest

    def numbers(self, cell_id: str) -> list[int]:
        # Cell ids come from URLs. An invalid one must never become part of a path.
        if not _CELL_ID.fullmatch(cell_id):
            return []
        with _translate_errors():
            return self._folder(cell_id).numbers()

    def publish(
        self, manifest: Manifest, segments: Iterable[Buffer], expected: str | None, without: Collection[int] = ()
    ) -> None:
        cell_id = manifest.cell.cell_id
        folder = self._folder(cell_id)
        with _translate_errors(), folder.locked():
            folder.remove_leftovers()
            digest = self.newest(cell_id)  # its manifest may be damaged: this version then takes its place
            if digest != expected:
                raise VersionConflict(cell_id, expected, digest)
            number = next(reversed(folder.numbers()), 0)
            if manifest.number <= number:
                raise ValueError(f"cell {cell_id!r}: version {manifest.number} cannot follow version {number}")
            make_directory(folder.versions)
            with folder.draft() as draft:
                folder.write(draft, manifest, segments)
                folder.note_removals(draft, without)
                draft.rename(folder.version(manifest.number))
            sync_directory(folder.versions)
            folder.tombstone.unlink(missing_ok=True)
            folder.remove_unwanted()

    def get_segment(self, cell_id: str, digest: str) -> Buffer:
        with _translate_errors():
            for path in self._folder(cell_id).segments(digest, self.numbers(cell_id)[::-1]):
                with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                    if not os.fstat(file.fileno()).st_size:
                        return b""
                    return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        raise MissingSegment(digest)

    def remove_versions(self, cell_id: str, numbers: Collection[int], *, dry_run: bool = False) -> Removal:
        if not self.numbers(cell_id):
            return Removal()
        folder = self._folder(cell_id)
        with _translate_errors(), folder.locked():
            folder.remove_leftovers()
            doomed = sorted(set(numbers) & set(folder.numbers()[:-1]))
            removal = folder.measure(doomed)
            if not dry_run:
                folder.remove(doomed)
            return removal

    def remove_cell(self, cell_id: str, expected: str | None) -> Removal:
        if not self.numbers(cell_id):
            return Removal()
        folder = self._folder(cell_id)
        with _translate_errors(), folder.locked():
            folder.remove_leftovers()
            if expected is not None:
                current = self.current(cell_id)
                digest = None if current is None else current.digest
                if digest != expected:
                    raise VersionConflict(cell_id, expected, digest)
            removal = folder.measure(folder.numbers())
            if removal.versions:
                folder.remove_all()
            return removal

    def is_removed(self, cell_id: str) -> bool:
        if not _CELL_ID.fullmatch(cell_id) or self.numbers(cell_id):
            return False
        with _translate_errors():
            return self._folder(cell_id).tombstone.exists()

    def add_truths(self, cell_id: str, truths: Sequence[ScoredTruth]) -> list[bool]:
        if not self.numbers(cell_id):
            return [False] * len(truths)
        folder = self._folder(cell_id)
        with _translate_errors(), folder.locked():
            if not folder.numbers():  # removed meanwhile
                return [False] * len(truths)
            return add_truths(folder.truths, truths)

    def read_truths(self, cell_id: str) -> dict[TruthGroup, TruthCounts]:
        if not self.numbers(cell_id):
            return {}
        with _translate_errors():
            return read_truths(self._folder(cell_id).truths)

    def check(self) -> None:
        with _translate_errors():
            try:
                os.listdir(self._root)
            except FileNotFoundError:
                raise StoreMissing("the directory of the reference database does not exist") from None

    def shard(self, cell_id: str) -> str:
        return cell_id  # a folder that cannot be read says nothing of the others

    def close(self) -> None:
        """Does nothing: the store keeps no file open."""

    def _folder(self, cell_id: str) -> CellFolder:
        return CellFolder(self._cells / cell_id)

    def _cell_folders(self) -> list[str]:
        with _translate_errors():
            try:
                names = os.listdir(self._cells)
            except FileNotFoundError:
                return []
        return sorted(name for name in names if _CELL_ID.fullmatch(name))

    def _may_be_published(self, cell_id: str) -> bool:
        try:
            return bool(self.numbers(cell_id))
        except StoreUnavailable:
            return True

    def _remove_abandoned(self, cell_id: str) -> None:
        # Another writer may hold the lock, or the folder is no cell's or not accessible. The next writer may clean up.
        folder = self._folder(cell_id)
        with contextlib.suppress(BlockingIOError, StoreUnavailable), _translate_errors():
            if folder.is_unfinished():
                with folder.locked(wait=False):
                    folder.remove_leftovers()


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Translates errors of the file system: missing, read-only or full disks, or no memory to map a file into."""
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryError(str(error)) from error
        if error.errno in NO_ROOM:
            raise StoreFull(f"directory of the reference database: {error.strerror}") from error
        kind = StoreForbidden if error.errno in FORBIDDEN else StoreUnavailable
        raise kind(f"directory of the reference database: {error.strerror or error}") from error


def _find_digest(cell_id: str, number: int, names: list[str]) -> str:
    """The digest of a manifest, from the names of the files in its version's folder."""
    digests = [name for name in names if DIGEST.fullmatch(name)]
    if len(digests) != 1:
        raise CorruptManifest(f"cell {cell_id!r}: version {number} has {len(digests)} digest files instead of one")
    return digests[0]
