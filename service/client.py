"""What ``fingerpost locate`` sends and gets."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np

from reference_db.cell import CELL_ID_PATTERN
from reference_db.errors import ReferenceDatabaseError
from reference_db.fingerprint_file import read_fingerprint_file
from service.schema import CELL_HEADER

_TIMEOUT_S = 60.0


class ClientError(Exception):
    """A file that holds no users, or a service that gave no answer; the text is fit for a person."""


@dataclass(frozen=True)
class FileUser:
    """A request's body as JSON values, and where the user truly is in local metres, if the file says."""

    request: Any
    truth: tuple[float, float] | None


def read_users(path: Path, rows: int, sigma: float | None) -> list[FileUser]:
    """The users of a request or batch (JSON), or the first `rows` fingerprints of an import file.

    A fingerprint's coarse position is its own, blurred by `sigma` metres an axis; None: none. Raises `ClientError`.
    """
    if path.suffix in {".safetensors", ".npz"}:
        return _fingerprints_as_users(path, rows, sigma)
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ClientError(f"{path} is no request: {error}") from error
    items = content["items"] if isinstance(content, dict) and isinstance(content.get("items"), list) else [content]
    return [FileUser(item, None) for item in items]


def request_of(
    cell_id: str, csi: np.ndarray[Any, np.dtype[np.complex64]], coarse: dict[str, float] | None = None
) -> dict[str, Any]:
    """A request's JSON values for CSI complex64 `[antennas, subcarriers]` and, if there is one, a coarse position."""
    request = {"cellId": cell_id, "csi": _sent(csi)}
    return request if coarse is None else request | {"coarsePosition": coarse}


def trajectory_request_of(
    cell_id: str,
    csi: np.ndarray[Any, np.dtype[np.complex64]],
    cues: Sequence[dict[str, float]] | None = None,
) -> dict[str, Any]:
    """As `request_of`, for the snapshots of a trajectory: CSI complex64 `[vertices, antennas, subcarriers]`.

    `cues` are what was measured beside each: `aodDeg`, `aoaDeg`, `distance` (metres), `gainDb`, any of them.
    """
    snapshots: list[dict[str, Any]] = [{"csi": _sent(one)} for one in csi]
    if cues is not None:
        snapshots = [one | {"cues": measured} for one, measured in zip(snapshots, cues, strict=True)]
    return {"cellId": cell_id, "snapshots": snapshots}


def _sent(csi: np.ndarray[Any, np.dtype[np.complex64]]) -> dict[str, Any]:
    data = np.ascontiguousarray(csi, "<c8").tobytes()
    sent: dict[str, Any] = msgspec.to_builtins({"encoding": "complex64", "shape": list(csi.shape), "data": data})
    return sent


def locate(url: str, users: list[FileUser]) -> list[dict[str, Any]]:
    """One result a user, each with `location` or `problem`. Raises `ClientError`."""
    try:
        answer = httpx.post(
            f"{url.rstrip('/')}/locate/batch",
            json={"items": [user.request for user in users]},
            headers=_cell_header(users),
            timeout=_TIMEOUT_S,
        )
        content = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise ClientError(f"no answer from {url}: {error}") from error
    if answer.status_code != httpx.codes.OK:
        raise ClientError(f"{url} answered {answer.status_code} {content.get('cause')}: {content.get('detail')}")
    results: list[dict[str, Any]] = content["results"]
    return results


def _cell_header(users: list[FileUser]) -> dict[str, str]:
    """By which a load balancer sends users of one cell to the replica that has it; none where they are of several."""
    named = [user.request.get("cellId") if isinstance(user.request, dict) else None for user in users]
    cell_id = named[0] if named else None
    if not isinstance(cell_id, str) or not re.fullmatch(CELL_ID_PATTERN, cell_id):
        return {}
    return {CELL_HEADER: cell_id} if all(other == cell_id for other in named) else {}


def _fingerprints_as_users(path: Path, rows: int, sigma: float | None) -> list[FileUser]:
    try:
        cell, fingerprints = read_fingerprint_file(path)
    except (ReferenceDatabaseError, OSError) as error:
        raise ClientError(str(error)) from error
    blur = np.random.default_rng(0).standard_normal((rows, 2)).tolist()
    users = []
    for csi, (x, y), (east, north) in zip(fingerprints.csi, fingerprints.positions.tolist(), blur, strict=False):
        coarse = None if sigma is None else {"x": x + sigma * east, "y": y + sigma * north, "hAccuracy": sigma}
        users.append(FileUser(request_of(cell.cell_id, csi, coarse), (x, y)))
    return users
