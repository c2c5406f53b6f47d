"""The state of an installation in the directory of its reference database.

installation/active/<family>.json      the active artifact of a family
installation/replicas/<name>.json      what a replica serves; written again and again while the replica runs
installation/lock                      held while an artifact is activated
installation/key-uses.json             the id of an API key -> Unix second of its last use
installation/key-uses.lock             held while that file is replaced
"""

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from reference_db.durable_file import FORBIDDEN, NO_ROOM, make_directory, write_durably
from reference_db.errors import CorruptManifest, StoreForbidden, StoreFull, StoreUnavailable
from service.artifacts.installation import ActiveArtifact, Replica, read_active, read_replicas

_KEY_USES = TypeAdapter(dict[str, int])


class DirectoryInstallation:
    """An `Installation` for replicas that share a directory.

    The file system's clock decides which reports hold, so the clocks of machines that mount it may differ.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._active = root / "installation" / "active"
        self._replicas = root / "installation" / "replicas"

    def active(self) -> dict[str, ActiveArtifact]:
        with _translate_errors():
            found = [read_active(path.read_bytes()) for path in self._active.glob("*.json")]
        return {one.family: one for one in found}

    def activate(self, artifact: ActiveArtifact, expected: ActiveArtifact | None) -> bool:
        path = self._active / f"{artifact.family}.json"
        with _translate_errors():
            make_directory(self._active)
            with (self._active.parent / "lock").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # closing the file releases it, even if the process is killed
                if _read_token(path) != (expected and expected.token):
                    return False
                write_durably(path, artifact.model_dump_json().encode())
        return True

    def report(self, replica: Replica) -> None:
        if not self._root.is_dir():  # a missing database must not appear because a replica reports
            return
        path = self._replicas / f"{replica.name}.json"
        draft = path.with_suffix(".draft")
        with _translate_errors():
            for folder in (self._replicas.parent, self._replicas):
                folder.mkdir(exist_ok=True)
            draft.write_text(replica.model_dump_json())  # a report need not survive a crash
            draft.replace(path)
            for old, data in self._read_reports():
                if old != path and data is None:
                    old.unlink(missing_ok=True)

    def replicas(self) -> list[Replica]:
        with _translate_errors():
            return read_replicas([data for _, data in self._read_reports() if data is not None])

    def merge_key_uses(self, uses: Mapping[str, int]) -> dict[str, int]:
        if not self._root.is_dir():
            return dict(uses)
        path = self._root / "installation" / "key-uses.json"
        with _translate_errors():
            path.parent.mkdir(exist_ok=True)
            with (path.parent / "key-uses.lock").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                known = _read_key_uses(path)
                merged = known | {key: max(at, known.get(key, at)) for key, at in uses.items()}
                if merged != known:
                    draft = path.with_suffix(".draft")
                    draft.write_text(json.dumps(merged))  # the last seconds need not survive a crash
                    draft.replace(path)
        return merged

    def withdraw(self, name: str) -> None:
        with _translate_errors():
            (self._replicas / f"{name}.json").unlink(missing_ok=True)

    def close(self) -> None:
        """Does nothing: no file is kept open."""

    def _read_reports(self) -> list[tuple[Path, bytes | None]]:
        """Each report; None in place of one that no longer holds. The newest report gives the time."""
        written: dict[Path, tuple[float, bytes]] = {}
        for path in self._replicas.glob("*.json"):
            try:
                written[path] = (path.stat().st_mtime, path.read_bytes())
            except FileNotFoundError:  # another replica has just removed it
                continue
        now = max((at for at, _ in written.values()), default=0.0)
        return [(path, data if _holds(data, now - at) else None) for path, (at, data) in written.items()]


def _holds(data: bytes, age_s: float) -> bool:
    return all(age_s <= replica.valid_s for replica in read_replicas([data]))


def _read_key_uses(path: Path) -> dict[str, int]:
    """Empty where there are none, or where they cannot be read: uses of now are worth more than none."""
    try:
        return _KEY_USES.validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return {}


def _read_token(path: Path) -> str | None:
    try:
        return read_active(path.read_bytes()).token
    except (FileNotFoundError, CorruptManifest):
        return None


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full, forbidden = error.errno in NO_ROOM, error.errno in FORBIDDEN
        kind = StoreFull if full else StoreForbidden if forbidden else StoreUnavailable
        raise kind(f"directory of the reference database: {error.strerror or error}") from error
