"""The folder of one cell in a `DirectoryStore`, whose module says how it is laid out."""

import fcntl
import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from reference_db.durable_file import make_directory, sync_directory, write_and_sync
from reference_db.errors import MissingSegment
from reference_db.manifest import Manifest
from reference_db.segment import digest_of
from reference_db.stores.store import Buffer, Removal

# Segments are mapped. Truncating a mapped file in place would kill its readers with SIGBUS.
_READ_ONLY = 0o444

_NUMBER = re.compile(r"[0-9]{10}")
DIGEST = re.compile(r"[0-9a-f]{64}")
_REMOVED = ".removed"
_WITHOUT = "without"


class CellFolder:
    """Versions, drafts and notes of a cell in the folder `home`. Methods raise `OSError`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.versions = home / "versions"
        self.truths = home / "truths.json"
        self.tombstone = home / "tombstone"

    def numbers(self) -> list[int]:
        """The numbers of the published versions, ascending."""
        try:
            names = os.listdir(self.versions)
        except FileNotFoundError:
            return []
        return sorted(int(name) for name in names if _NUMBER.fullmatch(name))

    def version(self, number: int) -> Path:
        """The folder of a version, whether it is there or not."""
        return self.versions / f"{number:010d}"

    def segments(self, digest: str, numbers: Iterable[int]) -> Iterator[Path]:
        """Where a segment may be, in these versions."""
        if DIGEST.fullmatch(digest):
            for number in numbers:
                yield self.version(number) / f"{digest}.safetensors"

    @contextmanager
    def locked(self, *, wait: bool = True) -> Iterator[None]:
        """Holds the lock of the cell. Raises `BlockingIOError` where another holds it and `wait` is not set."""
        make_directory(self.home)
        with (self.home / "lock").open("ab") as lock:
            # Closing the file releases the lock, even if the process is killed.
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A folder in which to write a version. It is removed at the end, unless it was renamed."""
        draft = self.home / "drafts" / uuid4().hex
        make_directory(draft)
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def write(self, draft: Path, manifest: Manifest, segments: Iterable[Buffer]) -> None:
        """Writes a version into a draft. Segments that are not in `segments` are linked from the versions here.

        Raises `MissingSegment`.
        """
        missing = dict.fromkeys(segment.digest for segment in manifest.segments)
        for data in segments:
            digest = digest_of(data)
            if digest in missing:
                write_and_sync(draft / f"{digest}.safetensors", data, _READ_ONLY)
                del missing[digest]
        for digest in missing:
            paths = self.segments(digest, self.numbers()[::-1])
            kept = next((one for one in paths if one.is_file()), None)
            if kept is None:
                raise MissingSegment(digest)
            _link(kept, draft / f"{digest}.safetensors")
        write_and_sync(draft / "manifest.json", manifest.to_bytes())
        write_and_sync(draft / manifest.digest, b"")
        sync_directory(draft)

    def note_removals(self, draft: Path, without: Collection[int]) -> None:
        """Says in a draft which versions its version removes, so that another process can finish that."""
        if without:
            write_and_sync(draft / _WITHOUT, " ".join(map(str, without)).encode())
            sync_directory(draft)

    def measure(self, numbers: Sequence[int]) -> Removal:
        """What a removal of these versions frees: their manifests, and segments without a link in another version."""
        links: dict[int, int] = {}
        files: dict[int, os.stat_result] = {}
        freed = 0
        for number in numbers:
            for entry in os.scandir(self.version(number)):
                status = entry.stat()
                if entry.name.endswith(".safetensors"):
                    files[status.st_ino] = status
                    links[status.st_ino] = links.get(status.st_ino, 0) + 1
                else:
                    freed += status.st_size
        free = [status for inode, status in files.items() if links[inode] == status.st_nlink]
        return Removal(tuple(numbers), len(free), freed + sum(status.st_size for status in free))

    def remove(self, numbers: Sequence[int]) -> None:
        """Call with the lock. Readers see each of these versions as a whole, or not at all."""
        if not numbers:
            return
        folders = [self.version(number) for number in numbers]
        for folder in folders:
            folder.rename(folder.with_suffix(_REMOVED))
        sync_directory(self.versions)
        for folder in folders:
            shutil.rmtree(folder.with_suffix(_REMOVED))

    def remove_all(self) -> None:
        """Removes all versions and the truths, and leaves a tombstone. Call with the lock."""
        self.tombstone.touch()
        self.truths.unlink(missing_ok=True)
        self.versions.rename(self.home / "removed")
        sync_directory(self.home)
        shutil.rmtree(self.home / "removed")

    def remove_unwanted(self) -> None:
        """Removes the versions that the current version was published without. Call with the lock."""
        kept = self.numbers()
        note = self.version(kept[-1]) / _WITHOUT if kept else None
        if note is not None and note.exists():
            self.remove(sorted(set(map(int, note.read_bytes().split())) & set(kept[:-1])))
            note.unlink()

    def is_unfinished(self) -> bool:
        """Whether a killed writer, or one that still writes, left something to remove."""
        kept = self.numbers()
        return bool(kept and (self.version(kept[-1]) / _WITHOUT).exists()) or bool(self._leftovers())

    def remove_leftovers(self) -> None:
        """Ends what killed writers began. Call with the lock."""
        for folder in self._leftovers():
            shutil.rmtree(folder, ignore_errors=True)
        self.remove_unwanted()

    def _leftovers(self) -> list[Path]:
        """Folders that a killed writer left. Not those of a writer, if the caller has the lock."""
        folders = [folder for folder in (self.home / "drafts", self.home / "removed") if folder.is_dir()]
        return folders + list(self.versions.glob(f"*{_REMOVED}"))


def _link(kept: Path, path: Path) -> None:
    try:
        os.link(kept, path)
    except OSError:  # the file system has no hard links, or the file has too many
        write_and_sync(path, kept.read_bytes(), _READ_ONLY)
