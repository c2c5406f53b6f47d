"""An artifact in service: its session, estimator and dispatcher, which another artifact replaces as one."""

from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

from fingerpost.wire_provenance import ArtifactReference
from models.artifact import LwlmArtifact, MateformerArtifact, TrajectoryArtifact
from service.inference.admission import Admission
from service.inference.dispatcher import Dispatcher
from service.inference.estimator import Estimator
from service.inference.lwlm_estimator import LwlmEstimator, MeasuredUser, Snapshot
from service.inference.lwlm_session import LwlmSession
from service.inference.mateformer_session import MateformerSession
from service.inference.session import ModelUnusable
from service.inference.steps import in_one_long_step
from service.inference.track_estimator import Track, TrackEstimator, TrackPoints
from service.inference.trajectory_estimator import Points, Trajectory, TrajectoryEstimator
from service.inference.trajectory_session import TrajectorySession
from service.inference.user import Estimate, User
from service.settings import Settings
from service.telemetry.measure_metrics import MeasureMetrics
from service.telemetry.metrics import Metrics
from service.telemetry.trajectory_metrics import TrajectoryMetrics

A = TypeVar("A", MateformerArtifact, TrajectoryArtifact, LwlmArtifact)
S = TypeVar("S", MateformerSession, TrajectorySession, LwlmSession)
E = TypeVar("E", Estimator, TrajectoryEstimator, LwlmEstimator)
U = TypeVar("U")
P = TypeVar("P")


@dataclass(frozen=True, eq=False)
class Engine(Generic[A, S, E, U, P]):
    """A request takes one and holds it to its end. Its sessions and frames are freed with the last request."""

    artifact: A
    session: S
    estimator: E
    dispatcher: Dispatcher[U, P]

    @cached_property
    def reference(self) -> ArtifactReference:
        manifest = self.artifact.manifest
        return ArtifactReference(name=manifest.name, version=manifest.version, digest=self.artifact.digest)

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the metric that names the artifact in service."""
        reference, provider = self.reference, self.session.providers[0]
        return {
            "name": reference.name,
            "version": reference.version,
            "digest": reference.digest,
            "provider": provider,
        }

    def close(self) -> None:
        """Stops the session at once; requests that wait for it fail."""
        self.session.close()


@dataclass(frozen=True, eq=False)
class MateformerEngine(Engine[MateformerArtifact, MateformerSession, Estimator, User, Estimate]):
    """`tracks` queues the tracks whose snapshots have been located; None where the artifact locates no tracks."""

    tracks: Dispatcher[Track, TrackPoints] | None


TrajectoryEngine = Engine[TrajectoryArtifact, TrajectorySession, TrajectoryEstimator, Trajectory, Points]
LwlmEngine = Engine[LwlmArtifact, LwlmSession, LwlmEstimator, tuple[Snapshot, ...], MeasuredUser]


def start_engine(artifact: MateformerArtifact, settings: Settings, metrics: Metrics) -> MateformerEngine:
    """Loads a Mateformer artifact and runs each of its graphs once.

    The engine's threads inherit the priority of the calling thread. Raises `ModelUnusable`.
    """
    session = MateformerSession(artifact, settings.inference_threads, settings.execution_providers)
    try:
        estimator = Estimator(session, settings.inference_batch, settings.frame_cache_bytes, metrics)
        estimator.prove()
    except Exception as error:  # ONNX Runtime raises many undocumented types
        session.close()
        raise ModelUnusable.of(artifact.directory, error) from error
    admission = Admission(settings.queue_limit_s, settings.standing_queue_s)
    dispatcher = Dispatcher(estimator.locate_in_steps, session, settings.inference_batch, admission, metrics)
    return MateformerEngine(artifact, session, estimator, dispatcher, _queue_tracks(session, settings, metrics))


def _queue_tracks(
    session: MateformerSession, settings: Settings, metrics: Metrics
) -> Dispatcher[Track, TrackPoints] | None:
    contract = session.manifest.tracks
    if contract is None:
        return None
    admission = Admission(settings.queue_limit_s, settings.standing_queue_s)
    locate = TrackEstimator(session, contract).locate_in_steps
    return Dispatcher(locate, session, settings.inference_batch, admission, metrics.tracks.dispatches)


def start_trajectory_engine(
    artifact: TrajectoryArtifact, settings: Settings, metrics: TrajectoryMetrics
) -> TrajectoryEngine:
    """Loads an artifact for trajectories and runs its graph once. Raises `ModelUnusable`."""
    session = TrajectorySession(artifact, settings.inference_threads, settings.execution_providers)
    estimator = TrajectoryEstimator(session)
    # One dispatch of trajectories may take longer than `standing_queue_s`, so only `queue_limit_s` applies.
    admission = Admission(settings.queue_limit_s, settings.queue_limit_s)
    locate = in_one_long_step(estimator.locate)
    dispatcher = Dispatcher(locate, session, settings.inference_batch, admission, metrics.dispatches)
    return TrajectoryEngine(artifact, session, estimator, dispatcher)


def start_lwlm_engine(artifact: LwlmArtifact, settings: Settings, metrics: MeasureMetrics) -> LwlmEngine:
    """Loads an artifact that measures snapshots and runs its graphs once for each CSI shape. Raises `ModelUnusable`."""
    session = LwlmSession(artifact, settings.inference_threads, settings.execution_providers)
    estimator = LwlmEstimator(session)
    # As for trajectories: one dispatch may take longer than `standing_queue_s`.
    admission = Admission(settings.queue_limit_s, settings.queue_limit_s)
    locate = in_one_long_step(estimator.locate)
    dispatcher = Dispatcher(locate, session, settings.inference_batch, admission, metrics.dispatches)
    return LwlmEngine(artifact, session, estimator, dispatcher)
