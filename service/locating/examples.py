"""Bodies that this service answers just now, for its OpenAPI document."""

import math
from base64 import b64encode
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from models.artifact import TrajectoryManifest
from reference_db.cell import Cell
from reference_db.errors import ReferenceDatabaseError, StoreUnavailable
from reference_db.geodesy import LocalFrame
from reference_db.half_csi import unpack_csi
from reference_db.manifest import Manifest
from reference_db.segment import Segment
from reference_db.stores.store import Store
from service.cells.registry import ServedCells
from service.cells.stations import Stations
from service.cells.trajectories import Trajectories, check_learned
from service.errors import ServiceError
from service.inference.mateformer_session import example_cell
from service.inference.session import plane_waves

Json = dict[str, Any]

_QUALITY = {"confidence": 90, "supportedGADShapes": ["POINT_UNCERTAINTY_CIRCLE"], "hAccuracy": 2.0, "maxAge": 10.0}
_SAMPLED = 64  # fingerprints
_NEAR = 1000.0  # metres
_MOST_READ = 200  # cells, of a city of many
_JOINT = 3  # snapshots
_WALK = 0.02  # radians: snapshots so much alike are located within a metre, as those of a trajectory must be
_EXTENT = TypeAdapter(list[float])


class Examples:
    """Made-up CSI in a cell that the service has. The examples work as they are and reveal no fingerprint."""

    def __init__(
        self, served: ServedCells, trajectories: Trajectories | None, stations: Stations | None, store: Store
    ) -> None:
        self._served = served
        self._trajectories = trajectories
        self._stations = stations
        self._store = store

    def by_operation(self) -> dict[str, Json]:
        """By operationId, the examples by title. Blocks: reads the store; while it is down the cell is made up."""
        local, wgs84, alone = self._users()
        return {
            "locate": {
                "local coarse position": local,
                "WGS84 coarse position": wgs84,
                "no coarse position": alone,
                "a circle of 90 %": local | _QUALITY,
                **self._stations_examples(),
            },
            "locateBatch": {"three users": {"items": [local, wgs84, alone]}},
            "locateTrajectory": self._joint_examples(local) | self._trajectory_examples(),
            "measure": self._measure_examples(),
        }

    def _users(self) -> tuple[Json, Json, Json]:
        cell = example_cell(self._served.engine.artifact.manifest.csi)
        cell_id, x, y, lat, lon, amplitude = "cell", 0.0, 0.0, 0.0, 0.0, 1.0
        if found := self._find_cell():
            manifest, (west, south, east, north) = found
            cell, amplitude = manifest.cell, self._read_amplitude(manifest)
            cell_id, x, y = cell.cell_id, round((west + east) / 2, 1), round((south + north) / 2, 1)
            lat, lon = LocalFrame(cell.latitude_deg, cell.longitude_deg).to_wgs84(x, y)
        alone = {
            "cellId": cell_id,
            "csi": _csi(plane_waves(cell.antennas, cell.subcarriers, 1)[0]) | {"scale": amplitude},
        }
        local = alone | {"coarsePosition": {"x": x, "y": y, "hAccuracy": 1.0}}
        place = {"lat": round(lat, 7), "lon": round(lon, 7), "hAccuracy": 1.0}
        wgs84 = local | {"coarsePosition": place, "hAccuracy": 2.0, "requestId": "example"}
        return local, wgs84, alone

    def _joint_examples(self, user: Json) -> Json:
        """Snapshots like a user's, of which each is a metre farther east than the last."""
        if self._served.engine.tracks is None:
            return {}
        coarse = user["coarsePosition"]
        places = [coarse | {"x": round(coarse["x"] + i, 1)} for i in range(_JOINT)]
        snapshots = [{"csi": user["csi"], "coarsePosition": place} for place in places]
        return {"compared with fingerprints": {"cellId": user["cellId"], "snapshots": snapshots}}

    def _trajectory_examples(self) -> Json:
        learned = None if self._trajectories is None else self._trajectories.engine.artifact.manifest
        cell_id = None if learned is None else self._find_learned_cell(learned)
        if learned is None or cell_id is None:
            return {}
        waves = plane_waves(learned.csi.antennas, learned.csi.subcarriers, learned.vertices, _WALK)
        snapshots: list[Json] = [{"csi": _csi(wave)} for wave in waves]
        features = {"departureAzimuthDeg": 77.5, "arrivalAzimuthDeg": 257.5, "distance": 61.0, "gainDb": -84.0}
        return {
            "path features measured": {
                "cellId": cell_id,
                "snapshots": [one | {"pathFeatures": features} for one in snapshots],
            },
            "path features estimated from the CSI": {"cellId": cell_id, "snapshots": snapshots},
        }

    def _measure_examples(self) -> Json:
        stations = self._find_stations()
        return {"a plane wave": _measurement(stations[0]) | {"requestId": "example"}} if stations else {}

    def _stations_examples(self) -> Json:
        stations = self._find_stations()
        if len(stations) < 2:
            return {}
        return {"two base stations": {"measurements": [_measurement(one) for one in stations], "hAccuracy": 3.0}}

    def _find_stations(self) -> list[Cell]:
        """At most two base stations near each other that the artifact measures in."""
        if self._stations is None:
            return []
        try:
            cell_ids = self._store.cells()
        except ReferenceDatabaseError:
            return []
        found: list[Cell] = []
        for manifest in islice(self._read_versions(cell_ids), _MOST_READ):
            try:
                self._stations.check(manifest)
            except ServiceError:
                continue
            if not found or _distance(found[0], manifest.cell) < _NEAR:
                found.append(manifest.cell)
            if len(found) == 2:
                break
        return found

    def _find_learned_cell(self, learned: TrajectoryManifest) -> str | None:
        for manifest in self._read_versions(learned.cells):
            try:
                check_learned(learned, manifest)
            except ServiceError:
                continue
            return manifest.cell.cell_id
        return None

    def _read_amplitude(self, manifest: Manifest) -> float:
        """The usual amplitude of a cell's fingerprints, to one digit. 1 while they cannot be read."""
        digest = manifest.segments[0].digest
        try:
            segment = Segment.from_buffer(self._store.get_segment(manifest.cell.cell_id, digest), digest)
        except ReferenceDatabaseError:
            return 1.0
        rows = np.linspace(0, len(segment) - 1, _SAMPLED).astype(np.int64)
        pairs = unpack_csi(segment.csi[rows], segment.scale[rows])
        power = 2 * np.square(pairs, dtype=np.float64).mean(axis=(1, 2, 3))
        return float(f"{math.sqrt(np.median(power)):.0e}")

    def _find_cell(self) -> tuple[Manifest, list[float]] | None:
        """The manifest of a cell that the artifact serves, and the extent of its fingerprints.

        The extent is west, south, east, north.
        """
        artifact = self._served.engine.artifact.manifest
        try:
            cell_ids = self._store.cells()
        except ReferenceDatabaseError:
            return None
        for manifest in self._read_versions(cell_ids):
            if manifest.fingerprints < artifact.neighbourhood_size:
                continue
            survey = manifest.quality.get("survey")
            if artifact.csi.reason_against(manifest.cell) is None and isinstance(survey, dict):
                return manifest, _EXTENT.validate_python(survey["extent"])
        return None

    def _read_versions(self, cell_ids: Iterable[str]) -> Iterator[Manifest]:
        """The current versions of cells, one after the other as they are needed. Leaves out what cannot be read."""
        unavailable = set()  # shards: waiting for each of their cells would take minutes
        for cell_id in cell_ids:
            shard = self._store.shard(cell_id)
            if shard in unavailable:
                continue
            try:
                manifest = self._store.current(cell_id)
            except StoreUnavailable:
                unavailable.add(shard)
            except ReferenceDatabaseError:
                continue
            else:
                if manifest is not None:
                    yield manifest


def _measurement(cell: Cell) -> Json:
    (wave,) = plane_waves(cell.antennas, cell.subcarriers, 1)
    return {"cellId": cell.cell_id, "csi": _csi(wave)}


def _distance(first: Cell, second: Cell) -> float:
    """Metres."""
    frame = LocalFrame(first.latitude_deg, first.longitude_deg)
    return math.hypot(*frame.to_local(second.latitude_deg, second.longitude_deg))


def _csi(pairs: NDArray[np.float32]) -> Json:
    """CSI `[antennas, subcarriers, 2]` as a request carries it."""
    data = b64encode(pairs.astype("<f2").tobytes()).decode("ascii")
    return {"encoding": "complex32", "shape": list(pairs.shape[:2]), "data": data}
