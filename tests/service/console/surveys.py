"""The cells of the console's tests, and how an operator without a browser sends them."""

import io
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from fingerpost import build_locate_body
from reference_db import Cell, Fingerprints, read_fingerprint_file
from reference_db.cell_description import write_description

CELL = "florence-0000"
SMALL = "north-gate"
DATA = Path(__file__).parents[3] / "benchmarks" / "data"
DAY = 86_400


def read_surveys() -> tuple[Cell, Fingerprints, Fingerprints]:
    """A whole cell, measured from west to east in two months, and its north-east measured again last week."""
    cell, all_of_it = read_fingerprint_file(DATA / f"{CELL}-references.safetensors")
    east, north = all_of_it.positions.T
    again = np.hypot(east - 74, north - 58) < 18
    share = ((east - east.min()) / np.ptp(east)).astype(np.float64)
    now = time.time()
    times = np.where(again, now - (4 - 2 * share) * DAY, now - (100 - 60 * share) * DAY)
    parts = [
        Fingerprints(all_of_it.csi[some], all_of_it.positions[some], times[some], all_of_it.sigmas[some])
        for some in (~again, again)
    ]
    return cell, parts[0], parts[1]


def as_file(fingerprints: Fingerprints, cell: Cell | None) -> bytes:
    """A fingerprint file (.npz)."""
    file = io.BytesIO()
    described = {} if cell is None else {"cell": np.array(write_description(cell))}
    np.savez(
        file,
        csi=fingerprints.csi,
        positions=fingerprints.positions,
        times=fingerprints.times,
        sigmas=fingerprints.sigmas,
        **described,
    )
    return file.getvalue()


def send(
    client: httpx.Client, method: str, path: str, fingerprints: Fingerprints, cell: Cell | None, **query: str
) -> httpx.Response:
    headers = {"Content-Type": "application/octet-stream"}
    return client.request(method, path, content=as_file(fingerprints, cell), params=query, headers=headers)


def locate(client: httpx.Client, rows: Any) -> None:
    """Locates some users of the cell."""
    _, users = read_fingerprint_file(DATA / f"{CELL}-users.safetensors")
    for row in rows:
        client.post("/locate", json=build_locate_body(CELL, users.csi[row], None)).raise_for_status()
