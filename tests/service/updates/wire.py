"""What operators send, in the shape of the tiny artifact."""

import io
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import numpy as np

from reference_db import Cell, Fingerprints
from reference_db.cell_description import write_description
from tests.service.tiny_artifact import ANTENNAS, SUBCARRIERS

Json = dict[str, Any]

DESCRIPTION: Json = {
    "point": {"lat": 43.7, "lon": 11.2},
    "height": 10.0,
    "azimuthDeg": 72.811266146,
    "array": {"rows": 1, "columns": ANTENNAS, "spacing": 0.5, "polarisations": 1},
    "carrierFrequency": 3.5e9,
    "bandwidth": 40e6,
    "subcarriers": SUBCARRIERS,
}


def on_a_line(first: int, last: int, north: float = 0.0) -> Fingerprints:
    """One a metre, measured a second each after the other from 2023-11-14 on; CSI that tells nothing."""
    n = last - first
    csi = np.random.default_rng(first).uniform(0.5, 1, (n, ANTENNAS, SUBCARRIERS)).astype(np.complex64)
    east = np.arange(first, last)
    positions = np.stack([east, np.full(n, north)], axis=1).astype(np.float32)
    return Fingerprints(csi, positions, 1.7e9 + east, np.full(n, 0.05, np.float32))


def sent(fingerprints: Fingerprints, *, raw: bool = False) -> list[Json]:
    """As the fields of a body: CSI as base64, or as `raw` bytes."""
    rows = []
    labels = (fingerprints.positions.tolist(), fingerprints.times.tolist(), fingerprints.sigmas.tolist())
    for csi, (x, y), time, sigma in zip(fingerprints.csi, *labels, strict=True):
        data = {"encoding": "complex64", "shape": list(csi.shape), "data": csi.tobytes()}
        measured = datetime.fromtimestamp(time, UTC).isoformat()
        encoded = data if raw else msgspec.to_builtins(data)
        rows.append({"csi": encoded, "x": x, "y": y, "time": measured, "sigma": sigma})
    return rows


def npz(fingerprints: Fingerprints, cell: Cell | None = None, **changed: np.ndarray) -> bytes:
    file = io.BytesIO()
    arrays = {name: getattr(fingerprints, name) for name in ("csi", "positions", "times", "sigmas")} | changed
    if cell is not None:
        arrays["cell"] = np.array(write_description(cell))
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def assert_problem(response: httpx.Response, status: int, cause: str, *params: str) -> Json:
    problem: Json = response.json()
    assert (response.status_code, problem["cause"]) == (status, cause), problem
    assert response.headers["content-type"] == "application/problem+json"
    assert [invalid["param"] for invalid in problem.get("invalidParams", [])] == list(params)
    return problem
