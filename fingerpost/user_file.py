"""Users in files, for ``fingerpost locate``."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fingerpost.client import ClientError, user_of
from fingerpost.wire import CoarsePosition, LocateRequest
from reference_db.errors import ReferenceDatabaseError
from reference_db.fingerprint_file import read_fingerprint_file


@dataclass(frozen=True)
class FileUser:
    """A user, and where it truly is in local metres, if the file says."""

    request: LocateRequest
    truth: tuple[float, float] | None


def read_users(path: Path, rows: int, sigma: float | None) -> list[FileUser]:
    """The users of a request or batch (JSON), or the first `rows` fingerprints of an import file.

    A fingerprint's coarse position is its own, blurred by `sigma` metres an axis; None: none. Raises `ClientError`.
    """
    if path.suffix in {".safetensors", ".npz"}:
        return _fingerprints_as_users(path, rows, sigma)
    try:
        content = json.loads(path.read_bytes())
        items = content["items"] if isinstance(content, dict) and "items" in content else [content]
        requests = [LocateRequest.model_validate(item) for item in items]
    except (OSError, ValueError) as error:
        raise ClientError(f"{path} is no request: {error}") from error
    return [FileUser(request, None) for request in requests]


def _fingerprints_as_users(path: Path, rows: int, sigma: float | None) -> list[FileUser]:
    try:
        cell, fingerprints = read_fingerprint_file(path)
    except (ReferenceDatabaseError, OSError) as error:
        raise ClientError(str(error)) from error
    blur = np.random.default_rng(0).standard_normal((rows, 2)).tolist()
    users = []
    for csi, (x, y), (east, north) in zip(fingerprints.csi, fingerprints.positions.tolist(), blur, strict=False):
        coarse = None
        if sigma is not None:
            coarse = CoarsePosition(x=x + sigma * east, y=y + sigma * north, h_accuracy=sigma)
        users.append(FileUser(user_of(cell.cell_id, csi, coarse), (x, y)))
    return users
