"""Writing files so that a crash at any moment leaves either the old state or the new one."""

import errno
import os
from pathlib import Path
from uuid import uuid4

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # on a disk, or for whoever writes


def write_durably(path: Path, data: bytes) -> None:
    """Replaces `path` by `data` atomically and returns once both are on the disk; makes missing folders."""
    make_directory(path.parent)
    draft = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        write_and_sync(draft, data)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_and_sync(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Writes a new file and returns once its bytes are on the disk; that its folder lists it is another matter."""
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def make_directory(path: Path) -> None:
    """Makes a folder and its parents, each entered durably into the one above."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(exist_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Returns once what a folder lists is on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
