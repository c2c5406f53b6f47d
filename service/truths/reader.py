"""Reads the truths of a request: each valid and inside its cell, with its CSI decoded, or what is wrong with it."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from fingerpost.wire import LocateRequest
from fingerpost.wire_truths import Truth
from reference_db.cell import Cell
from reference_db.geodesy import LocalFrame
from reference_db.manifest import Manifest
from service import errors
from service.errors import ServiceError
from service.locating.batch import map_results, parse_items
from service.locating.estimates import Received, check_timestamp
from service.locating.users import ReadUser
from service.web.csi import check_shape, decode_csi
from service.web.media import Format, validated
from service.web.place import to_local

_FARTHEST = 20_000.0  # metres from the base station, in a cell without fingerprints
_EXTENT = TypeAdapter(list[float])


class ReadTruth(NamedTuple):
    """A truth at `east`, `north` metres, with its CSI float32 `[antennas, subcarriers, 2]` where it has one.

    `user`: whom the service locates now, None where an answer that was given is scored.
    """

    truth: Truth
    east: float
    north: float
    csi: NDArray[np.float32] | None
    user: ReadUser | None


class TruthReader:
    """Reads truths of one version of a cell. Blocking: decoding takes milliseconds."""

    def __init__(self, manifest: Manifest, margin: float, most: int) -> None:
        """`margin` in metres: how far outside the area of the fingerprints a truth may lie."""
        self._cell: Cell = manifest.cell
        self._frame = LocalFrame(self._cell.latitude_deg, self._cell.longitude_deg)
        survey = manifest.quality.get("survey")
        extent = _EXTENT.validate_python(survey["extent"]) if isinstance(survey, dict) else None
        west, south, east, north = extent or (-_FARTHEST, -_FARTHEST, _FARTHEST, _FARTHEST)
        self._bounds = (west - margin, south - margin, east + margin, north + margin)
        self._most = most

    def read(self, body: bytes, reads: Format, received: Received) -> list[ReadTruth | ServiceError]:
        """Raises what `parse_items` raises."""
        items = parse_items(body, reads, self._most)
        return map_results(items, partial(self._read_one, received))

    def _read_one(self, received: Received, item: Any) -> ReadTruth:
        truth = validated(item, Truth)
        if truth.csi is None and truth.request_id is None:
            raise errors.FieldMissing("/csi", "required where there is no requestId")
        if truth.coarse_position is not None and truth.request_id is not None:
            raise errors.FieldIncorrect(
                "/coarsePosition", "does not go together with requestId: that was located before"
            )
        place = to_local(truth, self._frame)
        if place is None:
            raise errors.FieldIncorrect("", "must have either lat and lon, or x and y")
        self._check_place(*place)
        check_timestamp(truth.time, received, "/time")
        if truth.csi is None:
            return ReadTruth(truth, *place, None, None)
        csi = decode_csi(truth.csi)
        check_shape(csi, self._cell)
        if truth.request_id is not None:
            return ReadTruth(truth, *place, csi, None)
        request = LocateRequest(
            cell_id=self._cell.cell_id, csi=truth.csi, coarse_position=truth.coarse_position, timestamp=truth.time
        )
        return ReadTruth(truth, *place, csi, ReadUser(request, csi))

    def _check_place(self, x: float, y: float) -> None:
        west, south, east, north = self._bounds
        within = west <= x <= east and south <= y <= north
        area = self._cell.area
        if not within or (area is not None and not area.holds(np.array([[x, y]], np.float32)).all()):
            raise errors.TruthOutsideCell("", "the position lies outside the cell")
