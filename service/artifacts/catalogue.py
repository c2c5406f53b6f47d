"""The artifacts that operators may choose from: the folders below one that the settings name."""

import re
from pathlib import Path
from typing import NamedTuple

from models.artifact import MANIFEST_FILE, ArtifactError, Manifest, read_manifest
from service.artifacts.installation import ActiveArtifact
from service.errors import ArtifactNotFound, shorten_name
from service.settings import Settings

FOLDER_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_FOLDER = re.compile(FOLDER_PATTERN)


class Found(NamedTuple):
    """An artifact whose manifest can be read."""

    directory: Path
    manifest: Manifest
    digest: str


class Unreadable(NamedTuple):
    """An artifact whose manifest cannot be read."""

    folder: str
    reason: str


class ArtifactFolders:
    """Reads the folders anew for each call. Every method is blocking."""

    def __init__(self, settings: Settings) -> None:
        self._directory = (settings.artifacts_directory or settings.artifact_directory.absolute().parent).absolute()

    def list_artifacts(self) -> list[Found | Unreadable]:
        """All artifacts, sorted by folder. Reads manifests, but no graphs."""
        try:
            names = sorted(entry.name for entry in self._directory.iterdir())
        except OSError:
            return []
        return [self._read(name) for name in names if self._contains(name)]

    def path(self, folder: str) -> Path:
        """Raises `ArtifactNotFound`, also for text from a URL that cannot be the name of a folder."""
        if not self._contains(folder):
            raise ArtifactNotFound(f"there is no artifact {shorten_name(folder)!r}")
        return self._directory / folder

    def find(self, artifact: ActiveArtifact) -> Path | None:
        """The directory of an installation's active artifact: in the folder of that name, or else in any other.

        None if this replica has no artifact of that digest.
        """
        try:
            names = sorted(entry.name for entry in self._directory.iterdir())
        except OSError:
            return None
        for name in sorted(names, key=lambda name: name != artifact.folder):
            if self._contains(name):
                found = self._read(name)
                if isinstance(found, Found) and found.digest == artifact.digest:
                    return found.directory
        return None

    def _contains(self, name: str) -> bool:
        return bool(_FOLDER.fullmatch(name)) and (self._directory / name / MANIFEST_FILE).is_file()

    def _read(self, folder: str) -> Found | Unreadable:
        directory = self._directory / folder
        try:
            return Found(directory, *read_manifest(directory))
        except ArtifactError as error:
            return Unreadable(folder, describe_error(error, directory))


def describe_error(error: Exception, directory: Path) -> str:
    """The text of an error for remote operators, without the path of the artifact on this machine."""
    return str(error).replace(f"{directory}/", "").replace(str(directory), directory.name)
