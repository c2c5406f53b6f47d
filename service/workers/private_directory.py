"""The directory of the sockets of one parent and its children."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "fingerpost-"
_LOCK = "lock"
_LONGEST_PLACE = 60  # characters; the path of a socket has at most 107, in HAProxy 97
_YOUNG_S = 60.0  # its process may not have locked it yet


@contextmanager
def private_directory() -> Iterator[Path]:
    """A directory that only this user can enter, with a path that is short enough for sockets.

    Removes it at the end, and those of processes that were killed. They may hold a copy of a TLS key.
    """
    place = tempfile.gettempdir()
    if len(place) > _LONGEST_PLACE:
        place = "/tmp"
    remove_left(Path(place))
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=place) as name, (Path(name) / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until this process ends, however it ends
        with _aged_by_nobody(name):
            yield Path(name)


@contextmanager
def _aged_by_nobody(name: str) -> Iterator[None]:
    """Keeps systemd-tmpfiles, which removes old files of temporary directories, from a directory: by a lock on it."""
    descriptor = os.open(name, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def remove_left(place: Path) -> None:
    """Removes the directories of this user's processes that have ended without removing them."""
    for directory in place.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # it is another user's, is in use, or has just been removed
            status = directory.lstat()
            if status.st_uid != os.getuid() or time.time() - status.st_mtime < _YOUNG_S:
                continue
            with (directory / _LOCK).open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory)
