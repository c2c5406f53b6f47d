"""The artifacts that operators may choose from: folders below one that the settings name."""

import re
from pathlib import Path
from typing import NamedTuple

from models.artifact import MANIFEST_FILE, ArtifactError, MateformerManifest, TrajectoryManifest, read_manifest
from service.errors import ArtifactNotFound
from service.settings import Settings

FOLDER_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_FOLDER = re.compile(FOLDER_PATTERN)


class Found(NamedTuple):
    directory: Path
    manifest: MateformerManifest | TrajectoryManifest
    digest: str


class Unreadable(NamedTuple):
    folder: str
    reason: str


class ArtifactFolders:
    """Looked at anew each time; every method blocks."""

    def __init__(self, settings: Settings) -> None:
        self._directory = (settings.artifacts_directory or settings.artifact_directory.absolute().parent).absolute()

    def all(self) -> list[Found | Unreadable]:
        """By name; graphs are not looked at."""
        try:
            names = sorted(entry.name for entry in self._directory.iterdir())
        except OSError:
            return []
        return [self._read(name) for name in names if self._holds(name)]

    def path(self, folder: str) -> Path:
        """Raises `ArtifactNotFound`, also for a name that is none of a folder: names come from URLs."""
        if not self._holds(folder):
            raise ArtifactNotFound(f"there is no artifact {folder!r}")
        return self._directory / folder

    def _holds(self, name: str) -> bool:
        return bool(_FOLDER.fullmatch(name)) and (self._directory / name / MANIFEST_FILE).is_file()

    def _read(self, folder: str) -> Found | Unreadable:
        directory = self._directory / folder
        try:
            return Found(directory, *read_manifest(directory))
        except ArtifactError as error:
            return Unreadable(folder, reason_of(error, directory))


def reason_of(error: Exception, directory: Path) -> str:
    """An error's text, fit for operators elsewhere: where the artifact lies is nobody's business."""
    return str(error).replace(f"{directory}/", "").replace(str(directory), directory.name)
