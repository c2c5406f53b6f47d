"""What an operator reads of one cell: its fingerprints, its versions, how well users are located."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from fingerpost.downloads import check_export, read_exported_version, replacing
from fingerpost.exchange import Attempt, Exchange, Page, ask, require_success
from fingerpost.wire import CELL_HEADER
from fingerpost.wire_cells import CellDetail, CellProgress
from fingerpost.wire_fingerprints import ErrorMap, FingerprintList, ListedFingerprint
from fingerpost.wire_live import LiveEstimates
from fingerpost.wire_truths import TruthReport
from fingerpost.wire_versions import VersionDiff, VersionList, VersionSummary

SUFFIXES = {".safetensors", ".npz"}
_FINGERPRINTS, _VERSIONS = 1000, 50  # of a page


class AboutCell(Protocol):
    """A client of one cell."""

    @property
    def cell_id(self) -> str: ...


def show(cell: AboutCell, version: str | int | None = None) -> Exchange[CellDetail]:
    """Describes the current version of the cell, or another: ``3-ab12cd34ef56``, or ``3`` for short."""
    return ask(_get(cell, *([] if version is None else ["versions", str(version)])), CellDetail)


def list_fingerprints(
    cell: AboutCell, version: str | int | None = None, *, limit: int = _FINGERPRINTS, after: str | None = None
) -> Exchange[FingerprintList]:
    """One page of a version's fingerprints, without their CSI; `after` is `next` of the page before."""
    return ask(_get(cell, "fingerprints", version=version, limit=limit, after=after), FingerprintList)


def iterate_fingerprints(
    cell: AboutCell, version: str | int | None = None, *, page_size: int = _FINGERPRINTS
) -> Exchange[Page[ListedFingerprint]]:
    """All fingerprints of a version, without their CSI. Asks for one page after the other, all of one version."""
    return _continue_fingerprints(cell, version, page_size, None)


def list_versions(cell: AboutCell, *, limit: int = _VERSIONS, before: int | None = None) -> Exchange[VersionList]:
    """One page of the cell's versions, newest first; `before` is `next` of the page before."""
    return ask(_get(cell, "versions", limit=limit, before=before), VersionList)


def iterate_versions(cell: AboutCell, *, page_size: int = _VERSIONS) -> Exchange[Page[VersionSummary]]:
    """All versions of the cell that can be read, newest first. Asks for one page after the other."""
    return _continue_versions(cell, page_size, None)


def diff(cell: AboutCell, before: str | int, after: str | int) -> Exchange[VersionDiff]:
    """The differences between two versions."""
    return ask(_get(cell, "versions", str(before), "diff", str(after)), VersionDiff)


def export(cell: AboutCell, file: Path, version: str | int | None = None, *, overwrite: bool = False) -> Exchange[str]:
    """Writes a version to a file that can be imported again, and returns the version's name.

    The suffix chooses the format: .safetensors or .npz. A broken download, and an answer that is no export, leave the
    file as it was. Raises `ValueError` for another suffix, `FileExistsError` unless `overwrite`, and `OSError`.
    """
    if file.suffix not in SUFFIXES:
        raise ValueError(f"{file.name} ends neither in .safetensors nor in .npz")
    if file.exists() and not overwrite:
        raise FileExistsError(f"{file} exists; overwrite=True replaces it")
    attempt = _get(cell, "export", version=version, format=file.suffix[1:])
    with replacing(file) as partial:
        name = read_exported_version(require_success((yield attempt._replace(into=partial, slow=True))))
        check_export(partial, file.suffix)
    return name


def measure_errors(cell: AboutCell, version: str | int | None = None, *, limit: int = 100) -> Exchange[ErrorMap]:
    """Locates a sample of a version's own fingerprints, each left out of the comparison."""
    return ask(_get(cell, "errors", version=version, limit=limit)._replace(slow=True), ErrorMap)


def show_truths(cell: AboutCell, *, days: int = 90) -> Exchange[TruthReport]:
    """How often ellipses have held the truths of the last days, the bias and the errors."""
    return ask(_get(cell, "truths", days=days), TruthReport)


def show_progress(cell: AboutCell) -> Exchange[CellProgress]:
    """The stage that a change of the cell has reached on the replica that answers."""
    return ask(_get(cell, "change"), CellProgress)


def watch(cell: AboutCell, after: int = 0) -> Exchange[LiveEstimates]:
    """Where users were located on the replica that answers, since `after`: `next` of the answer before.

    The service keeps estimates only while an operator asks, and only if its settings allow it.
    """
    return ask(_get(cell, "live", after=after or None), LiveEstimates)


def cell_path(cell: AboutCell, *parts: str) -> str:
    """The path of a part of the cell. Raises `ValueError` for a version that would lead elsewhere."""
    if wrong := {"", ".", ".."} & set(parts):
        raise ValueError(f"{wrong.pop()!r} is not a version")
    return "/".join(["/cells", cell.cell_id, *(quote(part, safe="") for part in parts)])


def present(values: Mapping[str, str | int | None]) -> dict[str, str]:
    """The parameters or headers that have a value."""
    return {name: str(value) for name, value in values.items() if value is not None}


def _continue_fingerprints(
    cell: AboutCell, version: str | int | None, page: int, after: str | None
) -> Exchange[Page[ListedFingerprint]]:
    listed = yield from list_fingerprints(cell, version, limit=page, after=after)
    # Of the same version, even if another one is published meanwhile.
    rest = None if listed.next is None else _continue_fingerprints(cell, listed.version, page, listed.next)
    return Page(listed.fingerprints, rest)


def _continue_versions(cell: AboutCell, page: int, before: int | None) -> Exchange[Page[VersionSummary]]:
    listed = yield from list_versions(cell, limit=page, before=before)
    return Page(listed.versions, None if listed.next is None else _continue_versions(cell, page, listed.next))


def _get(cell: AboutCell, *parts: str, **params: str | int | None) -> Attempt:
    return Attempt("GET", cell_path(cell, *parts), present(params), {CELL_HEADER: cell.cell_id})
