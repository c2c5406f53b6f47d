"""State that the replicas of one reference database share: the active artifacts, and which replicas there are."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Protocol, Self
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reference_db.errors import CorruptManifest

FAMILY_PATTERN = r"[a-z0-9-]{1,64}"


_MOST_PAST = 50  # activations of a family that are remembered


class PastActivation(BaseModel):
    """An activation of a family, as its history keeps it. `at`: Unix seconds; None: an earlier release made it."""

    model_config = ConfigDict(frozen=True)

    folder: str
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    at: float | None = None


class ActiveArtifact(PastActivation):
    """The artifact that serves a family on all replicas. `token` tells two activations of one artifact apart.

    `past`: the activations before this one, the newest first. They are part of the record, so that the history and the
    active artifact change together.
    """

    family: Annotated[str, Field(pattern=f"^{FAMILY_PATTERN}$")]
    token: str = Field(default_factory=lambda: uuid4().hex)
    past: tuple[PastActivation, ...] = ()

    @classmethod
    def after(cls, before: "ActiveArtifact | None", family: str, folder: str, digest: str, at: float) -> Self:
        """The record of an activation at `at`, in Unix seconds. `before`: the record that it replaces."""
        past = () if before is None else (PastActivation.model_validate(before.model_dump()), *before.past)
        return cls(family=family, folder=folder, digest=digest, at=at, past=past[:_MOST_PAST])

    def activations(self) -> list[PastActivation]:
        """This one and those before it, the newest first."""
        return [self, *self.past]


class Replica(BaseModel):
    """What a replica serves: the digest of its artifact for each family. `problem`: why it serves not the active one.

    The report holds for `valid_s` seconds.
    """

    model_config = ConfigDict(frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
    artifacts: Mapping[str, str]
    problem: str | None = None
    valid_s: float


class Installation(Protocol):
    """All methods are blocking, and raise `StoreUnavailable` if the store cannot be reached. Any thread may call them.

    A record that cannot be read counts as absent in `activate`. Elsewhere it raises `CorruptManifest`.
    """

    def active(self) -> dict[str, ActiveArtifact]:
        """The active artifacts by family. Empty where none was ever activated."""

    def activate(self, artifact: ActiveArtifact, expected: ActiveArtifact | None) -> bool:
        """Makes an artifact the active one of its family if `expected` is the active one; returns whether it did.

        It is on the disk of the store when this returns.
        """

    def report(self, replica: Replica) -> None:
        """Records what a replica serves now, and removes reports that no longer hold.

        Does nothing if there is no database. Raises `StoreForbidden` if this process may not write there.
        """

    def replicas(self) -> list[Replica]:
        """The reports that hold, sorted by name."""

    def merge_key_uses(self, uses: Mapping[str, int]) -> dict[str, int]:
        """Keeps the later time of each key, in Unix seconds by the key's id, and returns all.

        Returns `uses` alone if there is no database. Raises `StoreForbidden` if this process may not write there.
        """

    def withdraw(self, name: str) -> None:
        """Removes the report of a replica that stops."""

    def close(self) -> None:
        """Closes connections."""


def open_installation(redis_url: str | None, database_directory: Path) -> Installation:
    """The state of the installation beside its reference database. Does not connect to Redis yet."""
    if redis_url is not None:
        from service.artifacts.redis_installation import RedisInstallation  # importing it takes a sixth of a second

        return RedisInstallation(redis_url)
    from service.artifacts.directory_installation import DirectoryInstallation

    return DirectoryInstallation(database_directory)


def read_active(data: bytes) -> ActiveArtifact:
    """Raises `CorruptManifest`."""
    try:
        return ActiveArtifact.model_validate_json(data)
    except ValidationError as error:
        raise CorruptManifest("the record of an active artifact cannot be read") from error


def read_replicas(reports: Sequence[bytes]) -> list[Replica]:
    """Sorted by name. Skips reports that cannot be read: a later version may write others."""
    replicas = []
    for data in reports:
        try:
            replicas.append(Replica.model_validate_json(data))
        except ValidationError:
            continue
    return sorted(replicas, key=lambda replica: replica.name)
