"""The users in files, for ``fingerpost locate``."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from fingerpost import (
    BatchRequest,
    ClientError,
    CoarsePosition,
    LocateRequest,
    StationsRequest,
    build_locate_request,
    build_stations_request,
)
from fingerpost.wire import MOST_STATIONS, UserRequest
from reference_db.cell import Cell
from reference_db.errors import ReferenceDatabaseError
from reference_db.fingerprint_file import read_fingerprint_file
from reference_db.fingerprints import Fingerprints
from reference_db.layout import CONVENTION, Layout
from reference_db.sources.source import SUFFIXES
from reference_db.unique_names import refuse_repeated_names

_USER: TypeAdapter[LocateRequest | StationsRequest] = TypeAdapter(UserRequest)


@dataclass(frozen=True)
class FileUser:
    """A user to locate. `truth` is the true position, metres east and north of the first base station, if known."""

    request: LocateRequest | StationsRequest
    truth: tuple[float, float] | None


def read_users(
    path: Path, rows: int, sigma: float | None, cell: Cell | None = None, layout: Layout = CONVENTION
) -> list[FileUser]:
    """The users of a request or batch (JSON), or the first `rows` fingerprints of a fingerprint file.

    The coarse position of a fingerprint is its position plus a normal error of `sigma` metres on each axis. If `sigma`
    is None, there is no coarse position. `cell`: None if the file describes it. Raises `ClientError` if the file cannot
    be read.
    """
    if path.suffix.lower() in SUFFIXES:
        return _read_fingerprint_users(_read_fingerprints(path, cell, layout), rows, sigma)
    try:
        return [FileUser(request, None) for request in _parse_requests(path.read_bytes())]
    except OSError as error:
        raise ClientError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        items, rest = (first["loc"][:2], first["loc"][2:]) if first["loc"][0] == "items" else ((), first["loc"])
        place = "".join(f"/{part}" for part in (*items, *rest[1:]))  # the rest begins with the form of the request
        raise ClientError(f"{path} is neither a request nor a batch: {place} {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise ClientError(f"{path} is not JSON: {error}") from error


def _parse_requests(content: bytes) -> Sequence[LocateRequest | StationsRequest]:
    body = json.loads(content, object_pairs_hook=refuse_repeated_names)
    if isinstance(body, dict) and "items" in body:
        return BatchRequest.model_validate_json(content).items
    return [_USER.validate_json(content)]


def read_users_of_stations(paths: Sequence[Path], rows: int, layout: Layout = CONVENTION) -> list[FileUser]:
    """The first `rows` users of fingerprint files of several base stations, which have the same users row by row.

    Raises `ClientError` if a file cannot be read, if the files do not have as many users or are of one cell, or if
    there are too many files.
    """
    if len(paths) > MOST_STATIONS:
        raise ClientError(f"{len(paths)} files: no user is located by more than {MOST_STATIONS} base stations")
    stations = [_read_fingerprints(path, None, layout) for path in paths]
    for path, (cell, fingerprints) in zip(paths, stations, strict=True):
        if len(fingerprints) != len(stations[0][1]):
            raise ClientError(f"{path} has {len(fingerprints)} users and {paths[0]} has {len(stations[0][1])}")
        if [one.cell_id for one, _ in stations].count(cell.cell_id) > 1:
            raise ClientError(f"{path}: another of the files is of cell {cell.cell_id}, too")
    places = stations[0][1].positions.tolist()[:rows]
    return [
        FileUser(build_stations_request({cell.cell_id: one.csi[row] for cell, one in stations}), (x, y))
        for row, (x, y) in enumerate(places)
    ]


def _read_fingerprints(path: Path, cell: Cell | None, layout: Layout) -> tuple[Cell, Fingerprints]:
    try:
        return read_fingerprint_file(path, cell, layout)
    except (ReferenceDatabaseError, OSError) as error:
        raise ClientError(str(error)) from error


def _read_fingerprint_users(surveyed: tuple[Cell, Fingerprints], rows: int, sigma: float | None) -> list[FileUser]:
    cell, fingerprints = surveyed
    errors = np.random.default_rng(0).standard_normal((min(rows, len(fingerprints)), 2)).tolist()
    users = []
    for csi, (x, y), (east, north) in zip(fingerprints.csi, fingerprints.positions.tolist(), errors, strict=False):
        coarse_position = None
        if sigma is not None:
            coarse_position = CoarsePosition(x=x + sigma * east, y=y + sigma * north, h_accuracy=sigma)
        users.append(FileUser(build_locate_request(cell.cell_id, csi, coarse_position), (x, y)))
    return users
