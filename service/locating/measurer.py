"""`POST /measure`: the whole path of a request, top to bottom."""

import math
import re
import time
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from fingerpost.wire import CELL_ID_PATTERN
from fingerpost.wire_measure import MeasureProvenance, MeasureRequest, MeasureResponse
from reference_db.azimuth import to_azimuth
from reference_db.path_features import SPEED_OF_LIGHT
from service.cells.descriptions import DescribedCell
from service.cells.stations import Stations
from service.errors import NoMeasuringArtifact, ServiceError
from service.inference.engine import LwlmEngine
from service.inference.lwlm_estimator import Measurement, Snapshot
from service.inference.workers import Workers
from service.locating.await_or_disconnect import await_or_disconnect
from service.locating.batch import USER_VALUES
from service.locating.estimates import Received, declared_deadline
from service.locating.quality import check_declared_quality, check_times
from service.locating.station_estimates import line_of_sight_of
from service.settings import Settings
from service.telemetry.measure_metrics import MeasureMetrics
from service.telemetry.stopwatch import Stopwatch
from service.web.csi import check_declared_shape, check_shape, decode_csi
from service.web.media import LARGE_BYTES, formats, read_body, validated

_WIDEST_DEG = 180.0  # beyond, an angle is unknown


class Measurer:
    def __init__(
        self, settings: Settings, stations: Stations | None, workers: Workers, metrics: MeasureMetrics
    ) -> None:
        self._settings = settings
        self._confidence = round(100 * settings.confidence)
        self._stations = stations
        self._workers = workers
        self._metrics = metrics

    async def measure(self, request: Request) -> Response:
        """Measures one snapshot. Raises a `ServiceError`."""
        stopwatch = Stopwatch()
        try:
            if self._stations is None:
                raise NoMeasuringArtifact("this service has no artifact that measures snapshots")
            engine = self._stations.engine  # one engine for the whole request, even if another is activated
            response = await self._measure(request, self._stations, engine, stopwatch)
        except ServiceError as error:
            self._metrics.measured(error.cause, stopwatch)
            raise
        self._metrics.measured("measured", stopwatch)
        return response

    async def _measure(
        self, request: Request, stations: Stations, engine: LwlmEngine, stopwatch: Stopwatch
    ) -> Response:
        engine.dispatcher.check_room("single")
        received = Received(datetime.now(UTC), time.monotonic())
        reads, writes = formats(request)
        body = await read_body(request, self._settings.body_limit_bytes, self._settings.body_timeout_s)
        if len(body) > LARGE_BYTES:
            with stopwatch.stage("decode"):
                parsed = await self._workers.run(reads.parsed, body, USER_VALUES)
            check_declared_quality(parsed, received)
            await _check_declared(parsed, stations, engine, received)
            with stopwatch.stage("decode"):
                asked = await self._workers.run(validated, parsed, MeasureRequest)
                check_times([("/timestamp", asked.timestamp)], asked.max_age, received)
                csi = await self._workers.run(decode_csi, asked.csi)
        else:
            with stopwatch.stage("decode"):
                asked = reads.read(body, MeasureRequest, USER_VALUES)
                check_times([("/timestamp", asked.timestamp)], asked.max_age, received)
                csi = decode_csi(asked.csi)
        limit = asked.max_resp_time
        deadline = math.inf if limit is None else received.monotonic + limit
        cell = await stations.serve(asked.cell_id, engine, deadline)
        check_shape(csi, cell.version.cell)
        future = engine.dispatcher.locate((Snapshot(cell.version.cell, csi),), deadline, "single")
        (measured,) = await await_or_disconnect([future], request)
        if isinstance(measured, ServiceError):
            raise measured
        (one,) = measured.stations
        with stopwatch.stage("encode"):
            return writes.response(_answer(asked, cell, one, engine, self._confidence, received.at))


async def _check_declared(parsed: Any, stations: Stations, engine: LwlmEngine, received: Received) -> None:
    """Raises why the cell cannot be served, or `CsiShapeMismatch`, before the CSI is decoded."""
    cell_id = parsed.get("cellId") if isinstance(parsed, dict) else None
    if isinstance(cell_id, str) and re.fullmatch(CELL_ID_PATTERN, cell_id):
        cell = await stations.serve(cell_id, engine, declared_deadline(parsed, received))
        check_declared_shape(parsed, cell.version.cell)


def _answer(
    asked: MeasureRequest,
    cell: DescribedCell,
    one: Measurement,
    engine: LwlmEngine,
    usual: int,
    received: datetime,
) -> MeasureResponse:
    """The measurement with its calibrated uncertainties. `usual`: the confidence of the service in per cent."""
    wanted, scales = asked.confidence or usual, engine.artifact.manifest.scales
    lengths, angles = scales.range.at(wanted), scales.aoa.at(wanted)
    range_uncertainty = lengths.factor * one.range_sigma
    return MeasureResponse(
        request_id=asked.request_id,
        time_of_arrival=one.range / SPEED_OF_LIGHT,
        time_of_arrival_uncertainty=range_uncertainty / SPEED_OF_LIGHT,
        range=one.range,
        range_uncertainty=range_uncertainty,
        aoa_deg=to_azimuth(cell.version.cell.yaw + one.aoa),
        aoa_uncertainty_deg=min(math.degrees(angles.factor * one.aoa_sigma), _WIDEST_DEG),
        los_probability=one.line_of_sight,
        los_nlos_measure_ind=line_of_sight_of(one.line_of_sight),
        confidence=min(lengths.confidence, angles.confidence),
        timestamp=asked.timestamp or received,
        provenance=MeasureProvenance(artifact=engine.reference, cell_version=cell.version.version),
    )
