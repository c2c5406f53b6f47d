"""An artifact at work: what is alike in those that locate by fingerprints and those for trajectories."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from fingerpost.wire import ArtifactReference
from models.artifact import Artifact, TrajectoryArtifact
from service.inference.dispatcher import Dispatcher
from service.inference.session import MateformerSession
from service.inference.trajectory_session import TrajectorySession

A = TypeVar("A", Artifact, TrajectoryArtifact)
N = TypeVar("N", MateformerSession, TrajectorySession)
U = TypeVar("U")


@dataclass(frozen=True, eq=False)
class LoadedModel(Generic[A, N, U]):
    """Whoever holds one keeps it whole: its sessions, frames and threads end with the last that does."""

    artifact: A
    network: N
    dispatcher: Dispatcher[U]

    @property
    def reference(self) -> ArtifactReference:
        manifest = self.artifact.manifest
        return ArtifactReference(name=manifest.name, version=manifest.version, digest=self.artifact.digest)

    @property
    def labels(self) -> dict[str, str]:
        """What Prometheus is told of it."""
        reference, provider = self.reference, self.network.providers[0]
        return {
            "name": reference.name,
            "version": reference.version,
            "digest": reference.digest,
            "provider": provider,
        }

    def close(self) -> None:
        """At once, whoever waits."""
        self.network.close()
