"""A store in a directory of the local file system.

    cells/<cell_id>/versions/<number>/manifest.json
    cells/<cell_id>/versions/<number>/<digest of the manifest>
    cells/<cell_id>/versions/<number>/<digest>.safetensors    each segment that the manifest lists
    cells/<cell_id>/versions/<number>/without                 numbers of versions that this version removes
    cells/<cell_id>/versions/<number>.removed                 a version that is being removed
    cells/<cell_id>/drafts/                                   versions that are being written
    cells/<cell_id>/removed/                                  all versions of a cell that is being removed
    cells/<cell_id>/tombstone                                 the cell was removed, unless there are versions
    cells/<cell_id>/lock                                      held while publishing and removing

The folder of a version contains everything that the version needs. Segments shared with earlier versions are hard links
to one file. A writer writes the folder as a draft and publishes it by renaming it to its number. A version is removed
by renaming its folder. A killed writer leaves drafts, renamed folders and versions that were to be removed; the next
process that holds the lock removes them.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from reference_db.cell_id import CELL_ID_PATTERN
from reference_db.durable_file import FORBIDDEN, NO_ROOM, make_directory, sync_directory, write_and_sync
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
from reference_db.segment import digest_of
from reference_db.stores.store import Buffer, Removal

# Segments are mapped. Truncating a mapped file in place would kill its readers with SIGBUS.
_READ_ONLY = 0o444

_CELL_ID = re.compile(CELL_ID_PATTERN.removeprefix("^").removesuffix("$"))
_NUMBER = re.compile(r"[0-9]{10}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_REMOVED = ".removed"
_WITHOUT = "without"
_TOMBSTONE = "tombstone"


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
                names = os.listdir(self._version(cell_id, numbers[-1]))
            except FileNotFoundError:  # the cell was removed meanwhile
                return None
        return _find_digest(cell_id, numbers[-1], names)

    def manifest(self, cell_id: str, number: int) -> Manifest:
        if not _CELL_ID.fullmatch(cell_id):
            raise UnknownVersion(cell_id, number)
        folder = self._version(cell_id, number)
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
            try:
                names = os.listdir(self._cells / cell_id / "versions")
            except FileNotFoundError:
                return []
        return sorted(int(name) for name in names if _NUMBER.fullmatch(name))

    def publish(
        self, manifest: Manifest, segments: Sequence[bytes], expected: str | None, without: Collection[int] = ()
    ) -> None:
        cell_id = manifest.cell.cell_id
        with _translate_errors(), self._locked(cell_id):
            self._remove_leftovers(cell_id)
            current = self.current(cell_id)
            digest = None if current is None else current.digest
            if digest != expected:
                raise VersionConflict(cell_id, expected, digest)
            number = 0 if current is None else current.number
            if manifest.number != number + 1:
                raise ValueError(f"cell {cell_id!r}: version {manifest.number} cannot follow version {number}")
            versions = self._cells / cell_id / "versions"
            make_directory(versions)
            with self._draft(cell_id) as draft:
                self._write(draft, manifest, {digest_of(data): data for data in segments}, current)
                if without:
                    write_and_sync(draft / _WITHOUT, " ".join(map(str, without)).encode())
                    sync_directory(draft)
                draft.rename(self._version(cell_id, manifest.number))
            sync_directory(versions)
            (self._cells / cell_id / _TOMBSTONE).unlink(missing_ok=True)
            self._remove_unwanted(cell_id)

    def get_segment(self, cell_id: str, digest: str) -> Buffer:
        with _translate_errors():
            for path in self._segments(cell_id, digest):
                with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                    if not os.fstat(file.fileno()).st_size:
                        return b""
                    return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        raise MissingSegment(digest)

    def remove_versions(self, cell_id: str, numbers: Collection[int], *, dry_run: bool = False) -> Removal:
        kept = self.numbers(cell_id)
        if not kept:
            return Removal()
        with _translate_errors(), self._locked(cell_id):
            self._remove_leftovers(cell_id)
            kept = self.numbers(cell_id)
            doomed = sorted(set(numbers) & set(kept[:-1]))
            removal = self._measure(cell_id, doomed)
            if not dry_run:
                self._remove(cell_id, doomed)
            return removal

    def remove_cell(self, cell_id: str, expected: str | None) -> Removal:
        if not self.numbers(cell_id):
            return Removal()
        home = self._cells / cell_id
        with _translate_errors(), self._locked(cell_id):
            self._remove_leftovers(cell_id)
            if expected is not None:
                current = self.current(cell_id)
                digest = None if current is None else current.digest
                if digest != expected:
                    raise VersionConflict(cell_id, expected, digest)
            removal = self._measure(cell_id, self.numbers(cell_id))
            if removal.versions:
                (home / _TOMBSTONE).touch()
                (home / "versions").rename(home / "removed")
                sync_directory(home)
                shutil.rmtree(home / "removed")
            return removal

    def is_removed(self, cell_id: str) -> bool:
        if not _CELL_ID.fullmatch(cell_id) or self.numbers(cell_id):
            return False
        with _translate_errors():
            return (self._cells / cell_id / _TOMBSTONE).exists()

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

    def _write(self, draft: Path, manifest: Manifest, given: Mapping[str, bytes], current: Manifest | None) -> None:
        cell_id = manifest.cell.cell_id
        for digest in dict.fromkeys(segment.digest for segment in manifest.segments):
            path = draft / f"{digest}.safetensors"
            if digest in given:
                write_and_sync(path, given[digest], _READ_ONLY)
            else:
                paths = self._segments(cell_id, digest, current)
                kept = next((one for one in paths if one.is_file()), None)
                if kept is None:
                    raise MissingSegment(digest)
                _link(kept, path)
        write_and_sync(draft / "manifest.json", manifest.to_bytes())
        write_and_sync(draft / manifest.digest, b"")
        sync_directory(draft)

    def _segments(self, cell_id: str, digest: str, first: Manifest | None = None) -> Iterator[Path]:
        """Where a segment may be: in version `first`, then in every version, the newest first."""
        if _DIGEST.fullmatch(digest):
            numbers = ([] if first is None else [first.number]) + self.numbers(cell_id)[::-1]
            for number in numbers:
                yield self._version(cell_id, number) / f"{digest}.safetensors"

    def _measure(self, cell_id: str, numbers: Sequence[int]) -> Removal:
        """What a removal of these versions frees: their manifests, and segments without a link in another version."""
        links: dict[int, int] = {}
        files: dict[int, os.stat_result] = {}
        freed = 0
        for number in numbers:
            for entry in os.scandir(self._version(cell_id, number)):
                status = entry.stat()
                if entry.name.endswith(".safetensors"):
                    files[status.st_ino] = status
                    links[status.st_ino] = links.get(status.st_ino, 0) + 1
                else:
                    freed += status.st_size
        free = [status for inode, status in files.items() if links[inode] == status.st_nlink]
        return Removal(tuple(numbers), len(free), freed + sum(status.st_size for status in free))

    def _remove(self, cell_id: str, numbers: Sequence[int]) -> None:
        """Call with the lock. Readers see each of these versions as a whole, or not at all."""
        if not numbers:
            return
        folders = [self._version(cell_id, number) for number in numbers]
        for folder in folders:
            folder.rename(folder.with_suffix(_REMOVED))
        sync_directory(self._cells / cell_id / "versions")
        for folder in folders:
            shutil.rmtree(folder.with_suffix(_REMOVED))

    def _remove_unwanted(self, cell_id: str) -> None:
        """Removes the versions that the current version was published without. Call with the lock."""
        kept = self.numbers(cell_id)
        note = self._version(cell_id, kept[-1]) / _WITHOUT if kept else None
        if note is not None and note.exists():
            self._remove(cell_id, sorted(set(map(int, note.read_bytes().split())) & set(kept[:-1])))
            note.unlink()

    def _version(self, cell_id: str, number: int) -> Path:
        return self._cells / cell_id / "versions" / f"{number:010d}"

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

    @contextmanager
    def _draft(self, cell_id: str) -> Iterator[Path]:
        draft = self._cells / cell_id / "drafts" / uuid4().hex
        make_directory(draft)
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)  # does nothing after the draft was renamed

    def _leftovers(self, cell_id: str) -> list[Path]:
        """Folders that a killed writer left. Not those of a writer, if the caller has the lock."""
        home = self._cells / cell_id
        folders = [folder for folder in (home / "drafts", home / "removed") if folder.is_dir()]
        return folders + list((home / "versions").glob(f"*{_REMOVED}"))

    def _remove_leftovers(self, cell_id: str) -> None:
        """Ends what killed writers began. Call with the lock."""
        for folder in self._leftovers(cell_id):
            shutil.rmtree(folder, ignore_errors=True)
        self._remove_unwanted(cell_id)

    def _remove_abandoned(self, cell_id: str) -> None:
        # Another writer may hold the lock, or the folder is no cell's or not accessible. The next writer may clean up.
        with contextlib.suppress(BlockingIOError, StoreUnavailable), _translate_errors():
            kept = self.numbers(cell_id)
            unwanted = bool(kept) and (self._version(cell_id, kept[-1]) / _WITHOUT).exists()
            if unwanted or self._leftovers(cell_id):
                with self._locked(cell_id, wait=False):
                    self._remove_leftovers(cell_id)

    @contextmanager
    def _locked(self, cell_id: str, *, wait: bool = True) -> Iterator[None]:
        make_directory(self._cells / cell_id)
        with (self._cells / cell_id / "lock").open("ab") as lock:
            # Closing the file releases the lock, even if the process is killed.
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield


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
    digests = [name for name in names if _DIGEST.fullmatch(name)]
    if len(digests) != 1:
        raise CorruptManifest(f"cell {cell_id!r}: version {number} has {len(digests)} digest files instead of one")
    return digests[0]


def _link(kept: Path, path: Path) -> None:
    try:
        os.link(kept, path)
    except OSError:  # the file system has no hard links, or the file has too many
        write_and_sync(path, kept.read_bytes(), _READ_ONLY)
