"""Request files of users whose tiles are cold, warm and all different, or shared."""

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
from fingerpost import build_locate_body
from reference_db import Cell, Fingerprints

Kind = Literal["cold", "warm-unique", "shared"]
Format = Literal["msgpack", "json"]
KINDS: tuple[Kind, ...] = ("cold", "warm-unique", "shared")
SPACING_M = 2.0  # side of a square with one user, at least a tile
WARM, SHARED = 128, 64  # users in a load
NOISE = 0.01  # amplitude of the noise added to a fingerprint's channel, relative to the channel's RMS
ACCURACY_M = 1.0  # of coarse positions, 1 sigma on each axis
PROBLEM = "problem"  # a batch's answer has this field for each user without a location


@dataclass(frozen=True)
class Load:
    """Requests to send over and over, after those of `warmup`.

    `once`: the same process must not get a request twice.
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
class CellUsers:
    """Users of one cell: channels complex64 `[n, antennas, subcarriers]` and coarse positions float32 `[n, 2]`."""

    cell_id: str
    csi: NDArray[np.complex64]
    coarse: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.coarse)

    def part(self, rows: slice) -> CellUsers:
        return CellUsers(self.cell_id, self.csi[rows], self.coarse[rows])


def spread_users(cell: Cell, fingerprints: Fingerprints) -> CellUsers:
    """One user in each square of `SPACING_M`, at a fingerprint with noise added; in random order."""
    squares = np.floor(fingerprints.positions / SPACING_M).astype(np.int64)
    _, rows = np.unique(squares, axis=0, return_index=True)
    np.random.default_rng(0).shuffle(rows)
    return CellUsers(cell.cell_id, _with_noise(fingerprints.csi[rows]), fingerprints.positions[rows])


def users_at_one_place(cell: Cell, fingerprints: Fingerprints, users: int) -> CellUsers:
    """Users who are all at the position of one fingerprint, each with other noise."""
    row = np.zeros(users, np.int64)
    return CellUsers(cell.cell_id, _with_noise(fingerprints.csi[row]), fingerprints.positions[row])


def make_load(kind: Kind, users: int, format: Format, cells: Sequence[tuple[Cell, Fingerprints]], folder: Path) -> Load:
    """Single requests (`users` 1) or batches. All users of a batch are in one cell."""
    all_users = [spread_users(*cell) for cell in cells]
    match kind:
        case "cold":
            # The first users of each cell are the warm-up: the first request loads the cell.
            firsts, pools = ([one.part(rows) for one in all_users] for rows in (slice(2), slice(2, None)))
        case "warm-unique":
            share = max(users, WARM // len(cells))
            pools = [one.part(slice(share)) for one in all_users[: WARM // share]]
        case "shared":
            pools = [users_at_one_place(*cells[0], users=max(users, SHARED))]
    name = folder / f"{kind}-{users}-{format}"

    def written(suffix: str, cell_users: Sequence[CellUsers], size: int) -> Requests:
        route = "/locate" if size == 1 else "/locate/batch"
        bodies = [encode_request(part, format) for part in _dealt(cell_users, size)]
        return write_requests(name.with_suffix(suffix), route, f"application/{format}", bodies, size)

    requests = written(".requests", pools, users)
    if kind == "cold":
        return Load(kind, format, requests, written(".warmup", firsts, 1), once=True)
    return Load(kind, format, requests, requests, once=False)


def make_rival_load(users: int, cell: Cell, fingerprints: Fingerprints, folder: Path) -> Load:
    """The users of one cell, for rivals. Rivals cache nothing between requests, so one kind stands for all kinds."""
    bodies = [rows_of(part).tobytes() for part in _dealt([spread_users(cell, fingerprints)], users)]
    requests, warmup = (
        write_requests(folder / f"rival-{users}.{name}", "/locate", MEDIA_TYPE, some, users)
        for name, some in (("requests", bodies), ("warmup", bodies[: SHARED // users]))
    )
    return Load("any", "raw", requests, warmup, once=False)


def rows_of(cell_users: CellUsers) -> NDArray[np.float32]:
    """The users in the format of `Users.to_rows`."""
    csi = np.ascontiguousarray(cell_users.csi).view(np.float32).reshape(*cell_users.csi.shape, 2)
    return Users(csi, cell_users.coarse, np.full(len(cell_users), ACCURACY_M, np.float32)).to_rows()


def without_coarse(cell_users: CellUsers, folder: Path) -> Load:
    """Single requests of users without a coarse position."""
    bodies = [_encode({"cellId": cell_users.cell_id, "csi": _csi(csi)}, "msgpack") for csi in cell_users.csi]
    requests = write_requests(folder / "no-coarse.requests", "/locate", "application/msgpack", bodies, 1)
    return Load("no coarse position", "msgpack", requests, requests, once=False)


def _dealt(cell_users: Sequence[CellUsers], size: int) -> list[CellUsers]:
    """Parts of `size` users, from the cells in turn."""
    parts = [[one.part(slice(i, i + size)) for i in range(0, len(one) - size + 1, size)] for one in cell_users]
    longest = max(map(len, parts))
    return [cell[i] for i in range(longest) for cell in parts if i < len(cell)]


def encode_request(cell_users: CellUsers, format: Format) -> bytes:
    """The body of a single request for one user, of a batch for several."""
    items = [
        _request(cell_users.cell_id, csi, place, format)
        for csi, place in zip(cell_users.csi, cell_users.coarse, strict=True)
    ]
    return _encode(items[0] if len(items) == 1 else {"items": items}, format)


def _request(cell_id: str, csi: NDArray[np.complex64], place: NDArray[np.float32], format: Format) -> dict[str, Any]:
    coarse = {"x": float(place[0]), "y": float(place[1]), "hAccuracy": ACCURACY_M}
    request = build_locate_body(cell_id, csi, coarse)
    return request | {"csi": _csi(csi)} if format == "msgpack" else request


def _csi(csi: NDArray[np.complex64]) -> dict[str, Any]:
    """CSI for msgpack: raw bytes instead of base64."""
    return {"encoding": "complex64", "shape": list(csi.shape), "data": np.ascontiguousarray(csi, "<c8").tobytes()}


def _encode(value: object, format: Format) -> bytes:
    return msgspec.msgpack.encode(value) if format == "msgpack" else msgspec.json.encode(value)


def _with_noise(csi: NDArray[np.complex64]) -> NDArray[np.complex64]:
    rng = np.random.default_rng(1)
    re, im = rng.standard_normal((2, *csi.shape), np.float32)
    rms = np.sqrt(np.square(np.abs(csi)).mean(axis=(1, 2), keepdims=True))
    noisy: NDArray[np.complex64] = csi + (NOISE * rms * (re + 1j * im)).astype(np.complex64)
    return noisy
