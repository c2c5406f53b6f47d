"""A store in a directory of the local file system.

    segments/<first 2 digits>/<digest>.safetensors
    cells/<cell_id>/manifests/<digest>.json    every version ever published
    cells/<cell_id>/current                    the digest of the current one
    cells/<cell_id>/lock                       held while publishing

Segments and manifests are written once and never change; the atomic replacement of `current` is the one
moment at which a version comes to be.
"""

import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reference_db.cell import CELL_ID_PATTERN
from reference_db.durable_file import make_directory, write_durably
from reference_db.errors import CorruptManifest, MissingSegment, VersionConflict
from reference_db.manifest import Manifest
from reference_db.segment import digest_of

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CELL_ID = re.compile(CELL_ID_PATTERN.removeprefix("^").removesuffix("$"))


class DirectoryStore:
    """The default `Store`; any number of threads and processes of one machine may share the directory."""

    def __init__(self, root: Path) -> None:
        self._cells = root / "cells"
        self._segments = root / "segments"

    def cells(self) -> list[str]:
        return sorted(pointer.parent.name for pointer in self._cells.glob("*/current"))

    def current(self, cell_id: str) -> Manifest | None:
        digest = self._current_digest(cell_id)
        if digest is None:
            return None
        try:
            data = self._manifest_path(cell_id, digest).read_bytes()
        except FileNotFoundError as error:
            raise CorruptManifest(f"cell {cell_id!r}: manifest {digest} is missing") from error
        return Manifest.from_bytes(data, digest)

    def publish(self, manifest: Manifest, expected: str | None) -> None:
        cell_id = manifest.cell.cell_id
        for segment in manifest.segments:
            if not self._segment_path(segment.digest).is_file():
                raise MissingSegment(segment.digest)
        with self._locked(cell_id):
            current = self._current_digest(cell_id)
            if current != expected:
                raise VersionConflict(cell_id, expected, current)
            write_durably(self._manifest_path(cell_id, manifest.digest), manifest.to_bytes())
            write_durably(self._cells / cell_id / "current", f"{manifest.digest}\n".encode())

    def put_segment(self, data: bytes) -> str:
        digest = digest_of(data)
        path = self._segment_path(digest)
        # Comparing instead of trusting the name heals a damaged segment when its file is imported again.
        if not (path.is_file() and path.read_bytes() == data):
            write_durably(path, data)
        return digest

    def get_segment(self, digest: str) -> bytes:
        try:
            return self._segment_path(digest).read_bytes()
        except FileNotFoundError:
            raise MissingSegment(digest) from None

    def _current_digest(self, cell_id: str) -> str | None:
        # Cell ids come from URLs: one that no cell can have must never become a path.
        if not _CELL_ID.fullmatch(cell_id):
            return None
        try:
            digest = (self._cells / cell_id / "current").read_text().strip()
        except FileNotFoundError:
            return None
        if not _DIGEST.fullmatch(digest):
            raise CorruptManifest(f"cell {cell_id!r}: its pointer to the current manifest is damaged")
        return digest

    def _manifest_path(self, cell_id: str, digest: str) -> Path:
        return self._cells / cell_id / "manifests" / f"{digest}.json"

    def _segment_path(self, digest: str) -> Path:
        return self._segments / digest[:2] / f"{digest}.safetensors"

    @contextmanager
    def _locked(self, cell_id: str) -> Iterator[None]:
        make_directory(self._cells / cell_id)
        with (self._cells / cell_id / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released with the file, also when the process is killed
            yield
