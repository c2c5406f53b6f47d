"""The routes of models: list the artifacts, and activate one."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request

from fingerpost.wire_artifacts import (
    CellCheck,
    CellComparison,
    CellFailure,
    MeasuringModel,
    Model,
    ModelList,
    PastActivation,
    ReplicaModels,
    TrajectoryModel,
    UnusableModel,
)
from reference_db.errors import ReferenceDatabaseError
from service import errors
from service.artifacts.activation import Activation
from service.artifacts.catalogue import FOLDER_PATTERN, ArtifactFolders, Found, Unreadable
from service.artifacts.cell_checks import CellChecks
from service.artifacts.follower import ArtifactFollower
from service.artifacts.installation import ActiveArtifact, Installation
from service.artifacts.model_descriptions import describe_model
from service.cells.registry import ServedCells
from service.cells.stations import Stations
from service.cells.trajectories import Trajectories
from service.inference.engine import LwlmEngine, MateformerEngine, TrajectoryEngine
from service.settings import Settings
from service.updates.parameters import Flag
from service.web.problems import problem_responses
from service.web.routes import ApiRoute

_log = logging.getLogger("fingerpost.models")


class Models:
    """The artifacts of this replica: those that serve, and those in the folder beside them."""

    def __init__(
        self,
        folders: ArtifactFolders,
        served: ServedCells,
        trajectories: Trajectories | None,
        stations: Stations | None,
        activation: Activation,
        follower: ArtifactFollower,
        installation: Installation,
        settings: Settings,
    ) -> None:
        self._folders = folders
        self._follower = follower
        self._installation = installation
        self._served = served
        self._trajectories = trajectories
        self._stations = stations
        self._activation = activation
        named = (
            settings.artifact_directory,
            settings.trajectory_artifact_directory,
            settings.lwlm_artifact_directory,
        )
        self._configured = {path.absolute() for path in named if path is not None}

    async def activate(self, folder: str, *, force: bool) -> ModelList:
        """Raises what `Activation.activate` raises."""
        return await self.list_models(await self._activation.activate(folder, force=force))

    async def list_models(self, checks: CellChecks | None = None) -> ModelList:
        """`checks`: those of an activation that has just ended."""
        found = await asyncio.to_thread(self._folders.list_artifacts)
        recorded, replicas = await asyncio.to_thread(self._list_replicas)
        engines: list[MateformerEngine | TrajectoryEngine | LwlmEngine] = [
            self._served.engine,
            *([] if self._trajectories is None else [self._trajectories.engine]),
            *([] if self._stations is None else [self._stations.engine]),
        ]
        active = {engine.artifact.digest for engine in engines}
        models = [
            self._describe(Found(artifact.directory, artifact.manifest, artifact.digest), engine.session.providers)
            for engine in engines
            for artifact in [engine.artifact]
        ]
        others = [one for one in found if isinstance(one, Found) and one.digest not in active]
        models += [self._describe(one, []) for one in others]
        return ModelList(
            models=models,
            unusable=[UnusableModel(**one._asdict()) for one in found if isinstance(one, Unreadable)],
            activated={family: one.digest for family, one in recorded.items()},
            replicas=replicas,
            history=_list_history(recorded, models),
            check=None if checks is None else _describe_checks(checks),
        )

    def _list_replicas(self) -> tuple[dict[str, ActiveArtifact], list[ReplicaModels]]:
        """The records of the artifacts activated last, by family, and what each replica serves."""
        try:
            active = self._installation.active()
            replicas = {one.name: one for one in self._installation.replicas()}
            own = self._follower.describe(active)
        except ReferenceDatabaseError as error:
            _log.warning("cannot list the replicas: %s", error)
            active, replicas, own = {}, {}, self._follower.describe()
        replicas[own.name] = own  # its report may be seconds old
        return active, [
            ReplicaModels(
                name=name,
                artifacts=dict(one.artifacts),
                problem=one.problem,
                unreported=self._follower.unreported if name == own.name else None,
            )
            for name, one in sorted(replicas.items())
        ]

    def _describe(self, artifact: Found, providers: list[str]) -> Model | TrajectoryModel | MeasuringModel:
        """`providers`: the execution providers that run the artifact, none for one that does not serve."""
        directory = artifact.directory.absolute()
        activating = directory.name == self._activation.folder
        return describe_model(
            directory,
            artifact.manifest,
            artifact.digest,
            state="active" if providers else "activating" if activating else "available",
            configured=directory in self._configured,
            providers=providers,
        )


def _list_history(
    recorded: Mapping[str, ActiveArtifact], models: Sequence[Model | TrajectoryModel | MeasuringModel]
) -> list[PastActivation]:
    """The activations of all families, the newest first."""
    known = {one.digest: one for one in models}
    found = []
    for family, active in recorded.items():
        for one in active.activations():
            model = known.get(one.digest)
            found.append(
                PastActivation(
                    family=family,
                    folder=one.folder,
                    digest=one.digest,
                    name=None if model is None else model.name,
                    version=None if model is None else model.version,
                    activated_at=None if one.at is None else datetime.fromtimestamp(one.at, UTC),
                )
            )
    return sorted(found, key=_activation_time, reverse=True)


def _activation_time(one: PastActivation) -> float:
    return 0.0 if one.activated_at is None else one.activated_at.timestamp()


def _describe_checks(checks: CellChecks) -> CellCheck:
    failed = [CellFailure(cell_id=cell_id, reason=reason) for cell_id, reason in checks.failed]
    compared = [
        CellComparison(cell_id=one.cell_id, median_before=one.before, median_after=one.after) for one in checks.compared
    ]
    return CellCheck(cells=checks.cells, checked=checks.checked, failed=failed, compared=compared)


router = APIRouter(tags=["models"], route_class=ApiRoute)


def get_models(request: Request) -> Models:
    models: Models = request.app.state.models
    return models


@router.get("/models", responses=problem_responses(errors.UnknownField), summary="List the models")
async def list_models(models: Annotated[Models, Depends(get_models)]) -> ModelList:
    """The artifacts that locate users, and those that can be activated."""
    return await models.list_models()


@router.post(
    "/models/{folder}:activate",
    responses=problem_responses(
        errors.ArtifactNotFound,
        errors.ArtifactRefused,
        errors.ActivationInProgress,
        errors.NoTrajectoryArtifact,
        errors.NoMeasuringArtifact,
        errors.FieldIncorrect,
        errors.UnknownField,
        errors.StoreDown,
        errors.StorageFull,
        errors.NotReady,
        errors.OutOfMemory,
        errors.ExaminerEnded,
    ),
    summary="Activate a model",
)
async def activate_model(
    folder: Annotated[
        str,
        Path(
            description="The folder of the model, as the list has it.",
            examples=["mateformer"],
            json_schema_extra={"pattern": f"^{FOLDER_PATTERN}$"},
        ),
    ],
    models: Annotated[Models, Depends(get_models)],
    force: Annotated[
        Flag,
        Query(description="Activate the model even if users would be located far worse, or if no cell can be checked."),
    ] = False,
) -> ModelList:
    """Loads and tests the artifact, compares it with the active one in the cells in memory and in a random sample of
    the others, calibrates the cells in memory and encodes the tiles in use. Then the artifact replaces the active one
    of its family, on this replica and in the store. `check` says how many cells were compared.

    This takes seconds for each cell. The other replicas follow within seconds: `replicas` says what each one serves.
    The artifact also serves after a restart.
    """
    return await models.activate(folder, force=force)
