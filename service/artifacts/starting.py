"""Chooses the artifacts that a replica starts with: the installation's active ones, else those of the settings."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from models.artifact import Artifact, ArtifactError, LwlmManifest, MateformerManifest, TrajectoryManifest, load_artifact
from reference_db.errors import ReferenceDatabaseError
from service.artifacts.catalogue import ArtifactFolders, describe_error
from service.artifacts.installation import ActiveArtifact, Installation
from service.inference.session import ModelUnusable

_log = logging.getLogger("fingerpost.models")

M = TypeVar("M", MateformerManifest, TrajectoryManifest, LwlmManifest)
E = TypeVar("E")


def read_active_artifacts(installation: Installation) -> dict[str, ActiveArtifact]:
    """The active artifacts by family. Empty, with a line in the log, if the store does not say."""
    try:
        return installation.active()
    except ReferenceDatabaseError as error:
        _log.warning("starting with the artifacts that the settings name: %s", error)
        return {}


def start_active(
    active: ActiveArtifact | None,
    folders: ArtifactFolders,
    configured: Path,
    wanted: type[M],
    start: Callable[[Artifact[M]], E],
) -> E:
    """Starts the active artifact; where there is none, or this replica cannot start it, the `configured` one.

    Raises `ArtifactError` or `ModelUnusable` if the configured artifact cannot be started either.
    """
    if active is not None:
        directory = folders.find(active)
        try:
            if directory is not None:
                return start(load_artifact(directory, wanted))
            reason = "this replica does not have it"
        except (ArtifactError, ModelUnusable) as error:
            reason = describe_error(error, directory or configured)
        _log.error("cannot start with the active artifact %s (%s): %s", active.folder, active.digest[:12], reason)
    return start(load_artifact(configured, wanted))
