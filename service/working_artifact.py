"""An artifact at work: what is alike in those that locate by fingerprints and those for trajectories."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from models.artifact import Artifact, TrajectoryArtifact
from service.dispatcher import Dispatcher
from service.network import Network
from service.schema import ArtifactReference
from service.trajectory_network import TrajectoryNetwork

A = TypeVar("A", Artifact, TrajectoryArtifact)
N = TypeVar("N", Network, TrajectoryNetwork)
U = TypeVar("U")


@dataclass(frozen=True, eq=False)
class WorkingArtifact(Generic[A, N, U]):
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
