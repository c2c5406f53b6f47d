"""Reads the users of a request: parsed, validated, their CSI decoded."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from starlette.requests import Request

from fingerpost.wire import CELL_ID_PATTERN, LocateRequest, StationsRequest
from reference_db.cell import Cell
from service import errors
from service.auth.middleware import charge
from service.cells.descriptions import DescribedCell
from service.cells.model_choice import ModelChoice
from service.errors import ServiceError
from service.inference.workers import Workers
from service.locating.batch import USER_VALUES, map_results, parse_items
from service.locating.estimates import Received, declared_deadline
from service.locating.joiner import Joiner, ReadStations, name_measurement
from service.locating.quality import check_declared_quality, check_times, choose_shapes
from service.locating.users import ReadUser
from service.telemetry.stopwatch import Stopwatch
from service.telemetry.tracing import span
from service.web.csi import check_declared_shape, decode_csi
from service.web.media import LARGE_BYTES, Format, validated

FEW = 32  # users: the event loop decodes or encodes them in well under a millisecond

A = TypeVar("A")


class UserReader:
    """Large bodies are read in worker threads, and only the users whose CSI has the shape of their cell are decoded."""

    def __init__(self, choice: ModelChoice, joiner: Joiner, workers: Workers, batch_limit: int) -> None:
        self._choice = choice
        self._joiner = joiner
        self._workers = workers
        self._batch_limit = batch_limit

    async def read_one(
        self, body: bytes, reads: Format, received: Received, stopwatch: Stopwatch
    ) -> list[ReadUser | ReadStations | ServiceError]:
        """The only user of a body, or what is wrong with it."""
        if len(body) <= LARGE_BYTES:
            return _read([body], partial(_parse_user, reads), received, stopwatch)
        parsed = await self._workers.run(_parse_one, body, reads, stopwatch)
        return await self._read_large(parsed, received, stopwatch)

    async def read_batch(
        self, body: bytes, reads: Format, received: Received, stopwatch: Stopwatch, request: Request
    ) -> list[ReadUser | ReadStations | ServiceError]:
        """The users of a batch, or what is wrong with each. Charges the key. Raises what `parse_items` raises."""
        if len(body) > LARGE_BYTES:
            items = await self._workers.run(self._parse_batch, body, reads, stopwatch)
            charge(request, len(items) - 1)
            return await self._read_large(items, received, stopwatch)
        items = self._parse_batch(body, reads, stopwatch)
        charge(request, len(items) - 1)
        if len(items) > FEW:
            return await self._workers.run(_read, items, _validate_user, received, stopwatch)
        return _read(items, _validate_user, received, stopwatch)

    def _parse_batch(self, body: bytes, reads: Format, stopwatch: Stopwatch) -> list[Any]:
        with stopwatch.stage("decode"):
            return parse_items(body, reads, self._batch_limit)

    async def _read_large(
        self, items: Sequence[Any | ServiceError], received: Received, stopwatch: Stopwatch
    ) -> list[ReadUser | ReadStations | ServiceError]:
        items = map_results(items, lambda item: _check_quality(item, received))
        deadlines: dict[str, float] = {}
        for item in items:
            if (name := _declared_cell(item)) is not None:
                deadlines[name] = max(declared_deadline(item, received), deadlines.get(name, 0.0))
        cells = await self._choice.describe(deadlines)
        groups = {names: declared_deadline(item, received) for item in items if (names := _declared_stations(item))}
        joint = await asyncio.gather(*(self._joiner.describe(*one) for one in groups.items()))
        stations = dict(zip(groups, joint, strict=True))
        fitting = map_results(items, lambda item: _check_stations(_check_fit(item, cells), stations))
        return await self._workers.run(_read, fitting, _validate_user, received, stopwatch)


def _parse_one(body: bytes, reads: Format, stopwatch: Stopwatch) -> list[Any | ServiceError]:
    with stopwatch.stage("decode"):
        return map_results([body], partial(reads.parsed, most_values=USER_VALUES))


def _check_quality(item: Any, received: Received) -> Any:
    """The item. Raises what `check_declared_quality` raises."""
    check_declared_quality(item, received)
    return item


def _declared_cell(item: Any) -> str | None:
    """The cell that a parsed item names; None where validation will refuse the name."""
    name = item.get("cellId") if isinstance(item, dict) else None
    return name if isinstance(name, str) and re.fullmatch(CELL_ID_PATTERN, name) else None


def _check_fit(item: Any, cells: Mapping[str, DescribedCell | ServiceError]) -> Any:
    """The item. Raises why there is no cell of its name, or `CsiShapeMismatch`."""
    name = _declared_cell(item)
    if name is not None:
        cell = cells[name]
        if isinstance(cell, ServiceError):
            raise cell
        check_declared_shape(item, cell.version.cell)
    return item


def _declared_stations(item: Any) -> tuple[str, ...]:
    """The cells of a parsed item's measurements; empty where there are none, or validation will refuse one's name."""
    measurements = item.get("measurements") if isinstance(item, dict) else None
    names = [_declared_cell(one) for one in measurements] if isinstance(measurements, list) else []
    return () if None in names else tuple(name for name in names if name is not None)


def _check_stations(item: Any, stations: Mapping[tuple[str, ...], list[Cell] | ServiceError]) -> Any:
    """The item. Raises why the cells of its measurements cannot be served, or `CsiShapeMismatch`."""
    if names := _declared_stations(item):
        cells = stations[names]
        if isinstance(cells, ServiceError):
            raise cells
        for i, (measurement, cell) in enumerate(zip(item["measurements"], cells, strict=True)):
            check_declared_shape(measurement, cell, f"/measurements/{i}/csi/shape")
    return item


def _read(
    items: Sequence[A],
    validate: Callable[[A], LocateRequest | StationsRequest],
    received: Received,
    stopwatch: Stopwatch,
) -> list[ReadUser | ReadStations | ServiceError]:
    with stopwatch.stage("decode"), span("decode"):
        return map_results(items, lambda item: _read_user(validate(item), received))


def _parse_user(reads: Format, body: bytes) -> LocateRequest | StationsRequest:
    return _validate_user(reads.parsed(body, USER_VALUES))


def _validate_user(item: Any) -> LocateRequest | StationsRequest:
    if isinstance(item, dict) and "measurements" in item:
        return _validate_stations(item)
    try:
        return validated(item, LocateRequest)
    except errors.FieldMissing as error:
        if "cellId" in item or "csi" in item:
            raise
        reason = "required field is missing: send cellId and csi, or measurements"
        raise errors.FieldMissing("/cellId", reason) from error


def _validate_stations(item: dict[str, Any]) -> StationsRequest:
    for name in ("cellId", "csi"):
        if name in item:
            raise errors.FieldIncorrect("/measurements", f"does not go together with {name}: send one of the two")
    request = validated(item, StationsRequest)
    names = [one.cell_id for one in request.measurements]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise errors.FieldIncorrect(f"/measurements/{i}/cellId", "comes twice: each measurement is of another cell")
    return request


def _read_user(request: LocateRequest | StationsRequest, received: Received) -> ReadUser | ReadStations:
    if isinstance(request, StationsRequest):
        return _read_stations(request, received)
    choose_shapes(request.supported_gad_shapes)
    check_times([("/timestamp", request.timestamp)], request.max_age, received)
    return ReadUser(request, decode_csi(request.csi))


def _read_stations(request: StationsRequest, received: Received) -> ReadStations:
    choose_shapes(request.supported_gad_shapes)
    times = [(f"/measurements/{i}/timestamp", one.timestamp) for i, one in enumerate(request.measurements)]
    check_times(times, request.max_age, received)
    csi = []
    for i, measurement in enumerate(request.measurements):
        try:
            csi.append(decode_csi(measurement.csi))
        except errors.FieldError as error:
            raise name_measurement(error, i, measurement.cell_id) from error
    return ReadStations(request, tuple(csi))
