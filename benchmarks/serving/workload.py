"""What users ask: request files of users whose tiles are cold, warm and all different, or shared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.serving.full_graph import MEDIA_TYPE, Users
from benchmarks.serving.generator import Requests, write_requests
from fingerpost.client import request_of
from reference_db import Cell, Fingerprints

Kind = Literal["cold", "warm-unique", "shared"]
Format = Literal["msgpack", "json"]
KINDS: tuple[Kind, ...] = ("cold", "warm-unique", "shared")
SPACING_M = 2.0  # between places, at least a tile
WARM, SHARED = 128, 64  # users a pool
NOISE = 0.01  # of a user's channel beside the fingerprint's at his place
ACCURACY_M = 1.0  # of coarse positions, 1 sigma an axis
PROBLEM = "problem"  # stands in a batch's answer for each user without a location


@dataclass(frozen=True)
class Load:
    """Requests to be asked around and around, after each of `warmup` was asked once.

    `once`: no request may be asked twice of the same process.
    """

    kind: str
    format: str
    requests: Requests
    warmup: Requests
    once: bool

    @property
    def users(self) -> int:
        return self.requests.users


@dataclass(frozen=True, eq=False)
class Asking:
    """Users of one cell: channels complex64 `[n, antennas, subcarriers]` and coarse positions float32 `[n, 2]`."""

    cell_id: str
    csi: NDArray[np.complex64]
    coarse: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.coarse)

    def part(self, rows: slice) -> Asking:
        return Asking(self.cell_id, self.csi[rows], self.coarse[rows])


def strangers(cell: Cell, fingerprints: Fingerprints) -> Asking:
    """One user in each square of `SPACING_M`, as a fingerprint in it would be heard; in random order."""
    squares = np.floor(fingerprints.positions / SPACING_M).astype(np.int64)
    _, rows = np.unique(squares, axis=0, return_index=True)
    np.random.default_rng(0).shuffle(rows)
    return Asking(cell.cell_id, _heard(fingerprints.csi[rows]), fingerprints.positions[rows])


def crowd(cell: Cell, fingerprints: Fingerprints, users: int) -> Asking:
    """Users who all stand where one fingerprint was measured."""
    row = np.zeros(users, np.int64)
    return Asking(cell.cell_id, _heard(fingerprints.csi[row]), fingerprints.positions[row])


def make_load(kind: Kind, users: int, format: Format, cells: Sequence[tuple[Cell, Fingerprints]], folder: Path) -> Load:
    """Single requests (`users` 1) or batches, each of users of one cell."""
    everybody = [strangers(*cell) for cell in cells]
    match kind:
        case "cold":
            # The first of each cell warm it up: a cell is loaded when it is first asked for.
            firsts, pools = ([one.part(rows) for one in everybody] for rows in (slice(2), slice(2, None)))
        case "warm-unique":
            share = max(users, WARM // len(cells))
            pools = [one.part(slice(share)) for one in everybody[: WARM // share]]
        case "shared":
            pools = [crowd(*cells[0], users=max(users, SHARED))]
    name = folder / f"{kind}-{users}-{format}"

    def written(suffix: str, asking: Sequence[Asking], size: int) -> Requests:
        route = "/locate" if size == 1 else "/locate/batch"
        bodies = [encode_request(part, format) for part in _dealt(asking, size)]
        return write_requests(name.with_suffix(suffix), route, f"application/{format}", bodies, size)

    requests = written(".requests", pools, users)
    if kind == "cold":
        return Load(kind, format, requests, written(".warmup", firsts, 1), once=True)
    return Load(kind, format, requests, requests, once=False)


def make_rival_load(users: int, cell: Cell, fingerprints: Fingerprints, folder: Path) -> Load:
    """The same users of one cell as rivals are asked; they keep nothing between requests, so one kind is every kind."""
    bodies = [rows_of(part).tobytes() for part in _dealt([strangers(cell, fingerprints)], users)]
    requests, warmup = (
        write_requests(folder / f"rival-{users}.{name}", "/locate", MEDIA_TYPE, some, users)
        for name, some in (("requests", bodies), ("warmup", bodies[: SHARED // users]))
    )
    return Load("any", "raw", requests, warmup, once=False)


def rows_of(asking: Asking) -> NDArray[np.float32]:
    """As `Users.to_rows`."""
    csi = np.ascontiguousarray(asking.csi).view(np.float32).reshape(*asking.csi.shape, 2)
    return Users(csi, asking.coarse, np.full(len(asking), ACCURACY_M, np.float32)).to_rows()


def without_coarse(asking: Asking, folder: Path) -> Load:
    """Single requests of users who send their channel only."""
    bodies = [_encode({"cellId": asking.cell_id, "csi": _csi(csi)}, "msgpack") for csi in asking.csi]
    requests = write_requests(folder / "no-coarse.requests", "/locate", "application/msgpack", bodies, 1)
    return Load("no coarse position", "msgpack", requests, requests, once=False)


def _dealt(asking: Sequence[Asking], size: int) -> list[Asking]:
    """Parts of `size` users, the cells in turn."""
    parts = [[one.part(slice(i, i + size)) for i in range(0, len(one) - size + 1, size)] for one in asking]
    longest = max(map(len, parts))
    return [cell[i] for i in range(longest) for cell in parts if i < len(cell)]


def encode_request(asking: Asking, format: Format) -> bytes:
    """The body of a single request for one user, of a batch for several."""
    items = [_request(asking.cell_id, csi, place, format) for csi, place in zip(asking.csi, asking.coarse, strict=True)]
    return _encode(items[0] if len(items) == 1 else {"items": items}, format)


def _request(cell_id: str, csi: NDArray[np.complex64], place: NDArray[np.float32], format: Format) -> dict[str, Any]:
    coarse = {"x": float(place[0]), "y": float(place[1]), "hAccuracy": ACCURACY_M}
    request = request_of(cell_id, csi, coarse)
    return request | {"csi": _csi(csi)} if format == "msgpack" else request


def _csi(csi: NDArray[np.complex64]) -> dict[str, Any]:
    """As msgpack carries it: bytes, not base64."""
    return {"encoding": "complex64", "shape": list(csi.shape), "data": np.ascontiguousarray(csi, "<c8").tobytes()}


def _encode(value: object, format: Format) -> bytes:
    return msgspec.msgpack.encode(value) if format == "msgpack" else msgspec.json.encode(value)


def _heard(csi: NDArray[np.complex64]) -> NDArray[np.complex64]:
    rng = np.random.default_rng(1)
    re, im = rng.standard_normal((2, *csi.shape), np.float32)
    loudness = np.sqrt(np.square(np.abs(csi)).mean(axis=(1, 2), keepdims=True))
    heard: NDArray[np.complex64] = csi + (NOISE * loudness * (re + 1j * im)).astype(np.complex64)
    return heard
