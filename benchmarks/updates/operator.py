"""An operator who changes a cell over HTTP, and new measurements of the cell's fingerprints."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np

from reference_db import Cell, Fingerprints, write_fingerprint_file

_TIMEOUT_S = 900.0
_FILE = {"Content-Type": "application/octet-stream"}
_NOISE, _SIGMA_M = 0.01, 0.05  # of a new measurement: noise relative to the channel's RMS, position error


class Refused(RuntimeError):
    """The service refused an update."""


class Operator:
    """An operator of one cell at one replica. Each update returns the number of its version, or raises `Refused`."""

    def __init__(self, url: str, cell: Cell) -> None:
        self._client = httpx.Client(timeout=_TIMEOUT_S)
        self._url = f"{url}/cells/{cell.cell_id}"
        self._cell = cell

    def create(self, fingerprints: Fingerprints) -> int:
        """Publishes the fingerprints with force=true, because the CSI of a large synthetic town repeats."""
        return self._made("PUT", "?force=true", content=file_of(self._cell, fingerprints), headers=_FILE)

    def append(self, file: bytes) -> int:
        """Appends the fingerprints of a file made by `file_of`."""
        return self._made("POST", "/fingerprints", content=file, headers=_FILE)

    def delete_measured_before(self, seconds: float) -> int:
        moment = datetime.fromtimestamp(seconds, UTC).isoformat()
        return self._made("POST", "/fingerprints/delete", json={"measuredBefore": moment})

    def roll_back(self, number: int) -> int:
        return self._made("POST", "/rollback", json={"version": number})

    def close(self) -> None:
        self._client.close()

    def _made(self, method: str, path: str, **body: object) -> int:
        answer = self._client.request(method, self._url + path, **body)  # type: ignore[arg-type]
        if not answer.is_success:
            raise Refused(f"{method} {answer.url}: {answer.status_code} {answer.text}")
        number, _, _ = answer.json()["version"].partition("-")
        return int(number)


def file_of(cell: Cell, fingerprints: Fingerprints) -> bytes:
    """The bytes of an import file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "fingerprints.safetensors"
        write_fingerprint_file(path, cell, fingerprints)
        return path.read_bytes()


def measured_again(fingerprints: Fingerprints, n: int, seconds: float, random: np.random.Generator) -> Fingerprints:
    """New measurements of `n` of a cell's fingerprints. `seconds`: Unix time of the survey."""
    rows = random.choice(len(fingerprints.positions), n, replace=False)
    csi = fingerprints.csi[rows]
    rms = np.sqrt(np.square(np.abs(csi)).mean(axis=(1, 2), keepdims=True) / 2)
    noise = random.standard_normal(csi.shape) + 1j * random.standard_normal(csi.shape)
    places = fingerprints.positions[rows] + random.normal(0, _SIGMA_M, (n, 2))
    return Fingerprints(
        csi=(csi + _NOISE * rms * noise).astype(np.complex64),
        positions=places.astype(np.float32),
        times=np.full(n, seconds),
        sigmas=np.full(n, _SIGMA_M, np.float32),
    )
