"""The routes that locate users."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from fingerpost.wire import (
    CELL_HEADER,
    BatchRequest,
    BatchResponse,
    LocateRequest,
    LocateResponse,
    StationsRequest,
)
from fingerpost.wire_live import LiveEstimates
from fingerpost.wire_measure import MeasureRequest, MeasureResponse
from fingerpost.wire_trajectory import TrajectoryRequest, TrajectoryResponse
from service import errors
from service.locating.live import Live
from service.web.media import READING_ERRORS
from service.web.parameters import DIGITS_ONLY, CellName
from service.web.problems import problem_responses
from service.web.routes import ApiRoute, BareRoute, takes

_CELL_HEADER = {
    "parameters": [
        {
            "name": CELL_HEADER,
            "in": "header",
            "required": False,
            "description": "The cell of all users of this request. A load balancer may route by this header. The "
            "service itself reads the body alone.",
            "schema": {"type": "string"},
        }
    ]
}
_CSI_ERRORS = (
    errors.CsiNotBase64,
    errors.CsiLengthMismatch,
    errors.CsiShapeMismatch,
    errors.CsiNotFinite,
    errors.CsiAllZero,
    errors.CsiOutOfRange,
)
_QUALITY_ERRORS = (errors.TimestampImplausible, errors.LocationTooOld, errors.ShapesNotSupported)
_SERVING_ERRORS = (
    errors.CellNotFound,
    errors.CellNotServed,
    errors.BandNotServed,
    errors.ModelNotAllowed,
    errors.CellUnreadable,
    errors.StoreDown,
    errors.Congested,
    errors.OutOfMemory,
    errors.ExaminerEnded,
    errors.InferenceFailed,
    errors.EstimateNotFinite,
    errors.TooLate,
)
_LAST_NUMBER = 2**53

router = APIRouter(tags=["locate"], route_class=BareRoute)
live_router = APIRouter(tags=["cells"], route_class=ApiRoute)


@router.post(
    "/locate",
    response_model=LocateResponse,
    responses=problem_responses(
        *READING_ERRORS,
        *_CSI_ERRORS,
        errors.CsiLevelImplausible,
        errors.CsiForeign,
        errors.CsiHasNoSignal,
        *_QUALITY_ERRORS,
        errors.CoarsePositionIncorrect,
        errors.CoarsePositionOutsideCell,
        *_SERVING_ERRORS,
        errors.PositioningMethodFailure,
        errors.TracksUnavailable,
        errors.NoMeasuringArtifact,
        errors.TooManyStations,
        errors.StationsTooFar,
    ),
    summary="Locate one user",
    openapi_extra=_CELL_HEADER,
)
@takes(LocateRequest | StationsRequest)
async def locate(request: Request) -> Response:
    """Compares a user's CSI with the fingerprints of the cell. A user with a `trackId` is located together with the
    last snapshots of this track, once there are enough. Where the first method cannot locate a user, others may, down
    to the coarse position that was sent: `provenance` names the method, and why those before it did not answer;
    `allowFallback` forbids it. With `measurements` of several base stations the user is
    located by all of them together, without fingerprints.
    """
    response: Response = await request.app.state.locator.locate(request)
    return response


@router.post(
    "/locate/batch",
    response_model=BatchResponse,
    responses=problem_responses(*READING_ERRORS, errors.BatchTooLarge, errors.Congested, errors.OutOfMemory),
    summary="Locate many users",
    openapi_extra=_CELL_HEADER,
)
@takes(BatchRequest)
async def locate_batch(request: Request) -> Response:
    """Each user has a location or a problem of its own, in the order of the request."""
    response: Response = await request.app.state.locator.locate_batch(request)
    return response


@router.post(
    "/locate/trajectory",
    response_model=TrajectoryResponse,
    responses=problem_responses(
        *READING_ERRORS,
        *_CSI_ERRORS,
        *_QUALITY_ERRORS,
        errors.TrajectoryLength,
        *_SERVING_ERRORS,
        errors.NoTrajectoryArtifact,
    ),
    summary="Locate the points of one trajectory",
    openapi_extra=_CELL_HEADER,
)
@takes(TrajectoryRequest)
async def locate_trajectory(request: Request) -> Response:
    """Locates one user's snapshots at points near each other together, in cells that the artifact was trained in."""
    response: Response = await request.app.state.trajectory_locator.locate(request)
    return response


@router.post(
    "/measure",
    response_model=MeasureResponse,
    responses=problem_responses(
        *READING_ERRORS,
        *_CSI_ERRORS,
        errors.CsiHasNoSignal,
        errors.TimestampImplausible,
        errors.LocationTooOld,
        *_SERVING_ERRORS,
        errors.NoMeasuringArtifact,
    ),
    summary="Measure one snapshot",
    openapi_extra=_CELL_HEADER,
)
@takes(MeasureRequest)
async def measure(request: Request) -> Response:
    """Measures the first path of a user's CSI: time of arrival, range, angle of arrival and whether it is the direct
    path. Needs no fingerprints, only the description of the cell, within what the model was trained with (`/models`).
    """
    response: Response = await request.app.state.measurer.measure(request)
    return response


def _live(request: Request) -> Live:
    live: Live = request.app.state.live
    return live


@live_router.get(
    "/cells/{cellId}/live",
    responses=problem_responses(
        errors.CellNotFound, errors.FieldIncorrect, errors.UnknownField, errors.WatchingForbidden, errors.Congested
    ),
    summary="Watch where users are located",
)
async def watch_cell(
    response: Response,
    cell_id: CellName,
    live: Annotated[Live, Depends(_live)],
    after: Annotated[int, Query(ge=1, le=_LAST_NUMBER, description="Only estimates of a higher number."), DIGITS_ONLY]
    | None = None,
) -> LiveEstimates:
    """The last estimates of a cell, where FINGERPOST_CONSOLE_LIVE allows it."""
    response.headers["Cache-Control"] = "no-store"
    return await live.watch(cell_id, after or 0)
