"""A backup: the cells of a store in one file, a tar archive.

    cells/<cell_id>/segments/<digest>.safetensors
    cells/<cell_id>/versions/<number>/<digest of the manifest>.json    after the segments that it lists
    index.json                                                         the last: without it the archive is incomplete

Manifests hold everything about a version but its fingerprints: description, retention, model policy, quality with its
calibrations, author and note. Every member has the digest of its bytes in its name or in the index.
"""

import errno
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import IO, NamedTuple, Self, TypeVar
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from reference_db.cell import CellId, list_errors
from reference_db.durable_file import sync_directory
from reference_db.errors import (
    BadBackup,
    CorruptManifest,
    CorruptSegment,
    MissingSegment,
    UnknownVersion,
)
from reference_db.manifest import Digest, Manifest
from reference_db.segment import digest_of
from reference_db.stores.store import Buffer, Store

_INDEX = "index.json"
_HIGHEST_NUMBER = 10**9  # stores write numbers with ten digits

Report = Callable[[str], None]
_Header = TypeVar("_Header", bound=tarfile.TarInfo)


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BackedUpVersion(_Stored):
    """A version by its number and the digest of its manifest."""

    number: int = Field(ge=1, le=_HIGHEST_NUMBER)
    digest: Digest


class BackedUpCell(_Stored):
    """The versions of a cell in a backup, oldest first; the last one was current."""

    cell_id: CellId
    versions: tuple[BackedUpVersion, ...] = Field(min_length=1)

    @field_validator("versions")
    @classmethod
    def _ascend(cls, versions: tuple[BackedUpVersion, ...]) -> tuple[BackedUpVersion, ...]:
        numbers = [version.number for version in versions]
        if any(one >= other for one, other in pairwise(numbers)):
            raise ValueError("the numbers of versions must ascend")
        return versions


class BackupIndex(_Stored):
    """What a backup holds. `left_out` names what was damaged, a sentence each."""

    schema_version: int = 1
    made_at: datetime
    cells: tuple[BackedUpCell, ...]
    left_out: tuple[str, ...] = ()

    @field_validator("schema_version")
    @classmethod
    def _is_read(cls, number: int) -> int:
        if number != 1:
            raise ValueError(f"it is {number}; this release reads 1")
        return number

    @field_validator("cells")
    @classmethod
    def _differ(cls, cells: tuple[BackedUpCell, ...]) -> tuple[BackedUpCell, ...]:
        named: set[str] = set()
        for cell in cells:
            if cell.cell_id in named:
                raise ValueError(f"cell {cell.cell_id} is listed twice")
            named.add(cell.cell_id)
        return cells


def write_backup(store: Store, path: Path, *, current_only: bool = False, report: Report = print) -> BackupIndex:
    """Writes the cells of a store with all their versions, or with their current ones.

    Holds one segment in memory at a time. Damaged versions are left out, and named in the index. The file appears when
    it is complete. Calls `report` with the name of each cell. Raises `StoreUnavailable` or `OSError`.
    """
    store.check()
    cells: list[BackedUpCell] = []
    left_out: list[str] = []
    with _new_archive(path) as archive:
        for cell_id in store.cells():
            report(cell_id)
            versions = _write_cell(store, archive, cell_id, current_only, left_out)
            if versions:
                cells.append(BackedUpCell(cell_id=cell_id, versions=tuple(versions)))
        if store.misses_cells():
            left_out.append("a part of the store does not answer: cells may be missing")
        index = BackupIndex(made_at=datetime.now(UTC), cells=tuple(cells), left_out=tuple(left_out))
        _add(archive, _INDEX, index.model_dump_json(indent=1).encode())
    return index


def _write_cell(
    store: Store, archive: tarfile.TarFile, cell_id: str, current_only: bool, left_out: list[str]
) -> list[BackedUpVersion]:
    written: set[str] = set()
    versions = []
    numbers = store.numbers(cell_id)
    for number in numbers[-1:] if current_only else numbers:
        try:
            manifest = store.manifest(cell_id, number)
            for digest in dict.fromkeys(segment.digest for segment in manifest.segments):
                if digest not in written:
                    data = store.get_segment(cell_id, digest)
                    if digest_of(data) != digest:
                        raise CorruptSegment(f"segment {digest} hashes to {digest_of(data)}")
                    _add(archive, f"cells/{cell_id}/segments/{digest}.safetensors", data)
                    written.add(digest)
        except UnknownVersion:  # removed meanwhile
            continue
        except (CorruptManifest, CorruptSegment, MissingSegment) as error:
            if number in store.numbers(cell_id):
                left_out.append(f"cell {cell_id}, version {number}: {error}")
            continue
        _add(archive, f"cells/{cell_id}/versions/{number}/{manifest.digest}.json", manifest.to_bytes())
        versions.append(BackedUpVersion(number=number, digest=manifest.digest))
    return versions


@contextmanager
def _new_archive(path: Path) -> Iterator[tarfile.TarFile]:
    """An archive that appears under its name when it is complete and on the disk. Follows links."""
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "it is not a regular file")
    draft = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        with draft.open("xb") as file:
            with tarfile.open(fileobj=file, mode="w") as archive:
                yield archive
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync_directory(path.parent)


def _add(archive: tarfile.TarFile, name: str, data: Buffer) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


class _Place(NamedTuple):
    """Where the bytes of a member lie in the file."""

    offset: int
    size: int


class Backup:
    """A complete backup, open to be read. Its hashes are checked as it is opened."""

    def __init__(self, file: IO[bytes], index: BackupIndex, places: dict[str, _Place]) -> None:
        self.index = index
        self._file = file
        self._places = places

    @classmethod
    def open(cls, path: Path, report: Report = print) -> Self:
        """Reads the whole file once. Raises `BadBackup` or `OSError`. Calls `report` with the name of each cell."""
        with ExitStack() as opened:
            file = opened.enter_context(path.open("rb"))
            try:
                backup = cls._read(file)
                for cell in backup.index.cells:
                    report(cell.cell_id)
                    backup._check_cell(cell)
            except tarfile.TarError as error:
                raise BadBackup(f"{path.name} is no complete backup: {error}") from error
            except BadBackup as error:
                raise BadBackup(f"{path.name}: {error}") from error
            opened.pop_all()  # the backup keeps the file
        return backup

    @classmethod
    def _read(cls, file: IO[bytes]) -> Self:
        places = _list_members(file)
        if _INDEX not in places:
            raise BadBackup("it is incomplete: it has no index")
        try:
            index = BackupIndex.model_validate_json(_read_at(file, places[_INDEX]))
        except ValidationError as error:
            first, *others = list_errors(error)
            more = f", and {len(others)} more fault{'s' * (len(others) > 1)}" if others else ""
            raise BadBackup(f"its index cannot be read: {' '.join(first.split())}{more}") from error
        return cls(file, index, places)

    def manifest(self, cell_id: str, version: BackedUpVersion) -> Manifest:
        """Raises `BadBackup`."""
        data = self._read_member(f"cells/{cell_id}/versions/{version.number}/{version.digest}.json")
        try:
            manifest = Manifest.from_bytes(data, version.digest)
        except CorruptManifest as error:
            raise BadBackup(f"cell {cell_id}, version {version.number} is damaged") from error
        if (manifest.cell.cell_id, manifest.number) != (cell_id, version.number):
            raise BadBackup(f"cell {cell_id}, version {version.number} is another version")
        return manifest

    def segment(self, cell_id: str, digest: str) -> bytes:
        """Raises `BadBackup`."""
        data = self._read_member(f"cells/{cell_id}/segments/{digest}.safetensors")
        if digest_of(data) != digest:
            raise BadBackup(f"cell {cell_id}: a segment is damaged")
        return data

    def close(self) -> None:
        self._file.close()

    def _check_cell(self, cell: BackedUpCell) -> None:
        checked: set[str] = set()
        for version in cell.versions:
            manifest = self.manifest(cell.cell_id, version)
            for reference in manifest.segments:
                if reference.digest not in checked:
                    self.segment(cell.cell_id, reference.digest)
                    checked.add(reference.digest)

    def _read_member(self, name: str) -> bytes:
        if name not in self._places:
            raise BadBackup(f"it lacks {name}")
        return _read_at(self._file, self._places[name])


class _Member(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        return _require_size(super().frombuf(buf, encoding, errors))


def _require_size(member: _Header) -> _Header:
    """Raises `ReadError` for a size below zero, after which `tarfile` would read the same member for ever."""
    if member.size < 0:
        raise tarfile.ReadError("a member has a size below zero")
    return member


def _list_members(file: IO[bytes]) -> dict[str, _Place]:
    """Where the files of an archive lie, by name. Raises `TarError` or `OSError`."""
    try:
        with tarfile.open(fileobj=file, mode="r:", tarinfo=_Member) as archive:
            members = [_require_size(member) for member in archive]  # an extended header may have changed the size
    except (ValueError, OverflowError, MemoryError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise tarfile.ReadError("a member has a size that no file has") from error
    return {member.name: _Place(member.offset_data, member.size) for member in members if member.isfile()}


def _read_at(file: IO[bytes], place: _Place) -> bytes:
    file.seek(place.offset)
    data = file.read(place.size)
    if len(data) != place.size:
        raise BadBackup("it ends early")
    return data
