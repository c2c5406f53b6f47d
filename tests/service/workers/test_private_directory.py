"""The directory of the sockets, and what killed processes leave of it."""

import fcntl
import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from service.workers.private_directory import private_directory, remove_left

_PROGRAM = """
import os, signal
from service.workers.private_directory import private_directory
with private_directory() as directory:
    (directory / "certificate.pem").write_text("secret")
    print(directory, flush=True)
    {end}
"""


def _made(end: str, place: Path) -> Path:
    command = [sys.executable, "-c", _PROGRAM.format(end=end)]
    environment = os.environ | {"TMPDIR": str(place)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture
def place() -> Path:
    """The paths of pytest's directories are too long for sockets."""
    with tempfile.TemporaryDirectory(prefix="tests-") as name:
        yield Path(name)


def _age(directory: Path) -> None:
    then = time.time() - 3600
    os.utime(directory, (then, then))


def test_it_is_private_and_goes_with_its_process(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    with private_directory() as directory:
        assert directory.parent == place
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert not directory.exists()


def test_what_a_killed_process_leaves_is_removed_and_what_is_in_use_stays(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    left = _made("os.kill(os.getpid(), signal.SIGKILL)", place)
    foreign = place / "fingerpost-notes"
    foreign.mkdir()
    with private_directory() as used:
        for directory in (left, foreign, used):
            _age(directory)
        remove_left(place)
        assert (left.exists(), foreign.exists(), used.exists()) == (False, True, True)


def test_it_is_locked_against_the_cleaning_of_old_files(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    with private_directory() as directory:
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            with pytest.raises(BlockingIOError):  # what systemd-tmpfiles does before it looks inside
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)


def test_a_long_path_is_avoided(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(place / ("x" * 80)))
    with private_directory() as directory:
        assert directory.parent == Path("/tmp")
