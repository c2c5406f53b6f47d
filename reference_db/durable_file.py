"""Writes files so that a crash at any moment leaves either the old state or the new state."""

import errno
import os
from pathlib import Path
from uuid import uuid4

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # disk full, quota reached, or file too large
FORBIDDEN = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})  # read-only mount, or missing permissions


def write_durably(path: Path, data: bytes) -> None:
    """Atomically replaces the file at `path` and returns once the data is on the disk. Creates missing folders."""
    make_directory(path.parent)
    draft = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        write_and_sync(draft, data)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_and_sync(path: Path, data: bytes | memoryview, mode: int = 0o666) -> None:
    """Writes a new file and returns once its data is on the disk. Call `sync_directory` to make its name durable."""
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def make_directory(path: Path) -> None:
    """Creates a folder and its parents and returns once they are on the disk."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(exist_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Returns once the entries of a folder are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
