"""The versions that were to replace a cell in service and cannot be served."""

import logging
import time
from typing import NamedTuple

from reference_db.cell_version import CellVersion

_log = logging.getLogger("fingerpost.cells")

_RETRIED_S = 60.0  # a version that could not be served is tried again after this time


class _Refused(NamedTuple):
    digest: str  # of the manifest; empty where it could not be read
    complaint: str
    at: float  # time.monotonic


class Refusals:
    """Remembers the last version that was tried in each cell, and why it was refused. For any thread."""

    def __init__(self) -> None:
        self._refused: dict[str, _Refused] = {}
        self._tried: dict[str, str] = {}  # digests of manifests

    def note_tried(self, cell_id: str, digest: str) -> None:
        """Call before a version is loaded: its manifest could be read."""
        self._tried[cell_id] = digest

    def record(self, cell_id: str, held: CellVersion, complaint: str) -> str | None:
        """Records why the version tried last cannot replace the one held; returns its digest, None if it is unknown.

        Logs each reason once.
        """
        digest = self._tried.get(cell_id, "")
        before = self._refused.get(cell_id)
        if before is None or before[:2] != (digest, complaint):
            _log.warning("cell %s stays at version %s: %s", cell_id, held.version, complaint)
        self._refused[cell_id] = _Refused(digest, complaint, time.monotonic())
        return digest or None

    def complaint(self, cell_id: str, digest: str) -> str | None:
        """Why a version was refused; None where it was not."""
        refused = self._refused.get(cell_id)
        return refused.complaint if refused is not None and refused.digest == digest else None

    def is_recent(self, cell_id: str, digest: str | None) -> bool:
        """Whether this version was refused a short time ago."""
        refused = self._refused.get(cell_id)
        return refused is not None and refused.digest == digest and time.monotonic() - refused.at < _RETRIED_S

    def forget(self, cell_id: str) -> None:
        """Call when the current version is in service."""
        self._refused.pop(cell_id, None)

    def forget_all(self) -> None:
        """Call when the engine that refused the versions is replaced."""
        self._refused.clear()
