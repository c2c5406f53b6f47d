"""A cell that operators change again and again, every version of it unlike the others to whoever is located in it.

A version that replaces all fingerprints has them half a kilometre from where the one before has them, with the same
signals: of a neighbourhood or a frame of two versions the answer would lie somewhere between. What is appended lies
beside the users, what is deleted is what was appended, and a rollback goes back to another place. What any version
answers can be found out alone, by `answers_of`.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, NamedTuple

import httpx
import msgspec
import numpy as np

from fingerpost import build_locate_body
from models.artifact import MateformerArtifact
from reference_db import CellVersion, Fingerprints, Store, read_contents
from service.inference.estimator import Estimator
from service.inference.mateformer_session import MateformerSession
from service.inference.user import User
from service.telemetry.metrics import Metrics
from service.telemetry.stopwatch import Stopwatch
from service.updates.cell_wire import describe_cell
from tests.service.plane_cell import make_cell, users_at

CELL = make_cell("changing")
USERS = 6

_SIDE = 10
_STEP_M, _STEPS = 512.0, 8  # between places; no two versions near each other in time are at one place
_DIFFERENT_M = 0.005


def _grid() -> np.ndarray:
    """A fingerprint near the middle of every tile, so that it is clear in which one a user is: float32 `[n, 2]`."""
    corners = np.stack(np.meshgrid(np.arange(_SIDE), np.arange(_SIDE)), axis=-1).reshape(-1, 2)
    jitter = np.random.default_rng(0).uniform(-0.4, 0.4, corners.shape)
    return (2 * corners + (31, -9) + jitter).astype(np.float32)


GRID = _grid()
# Away from the edge of the grid.
STANDING = GRID[[23, 26, 44, 57, 62, 75]]


def signals_at(places: np.ndarray) -> np.ndarray:
    """CSI complex64 `[n, 32, 32]`; its first number is positive, which the tiny artifact's network wants."""
    csi = users_at(places)
    return (csi * np.exp(-1j * np.angle(csi[:, :1, :1]))).astype(np.complex64)


def moved(number: int) -> np.ndarray:
    """Where the version of a number has its fingerprints, beside where they belong."""
    return np.array([number % _STEPS, number // _STEPS % _STEPS], np.float32) * np.float32(_STEP_M)


def request_bodies(cell_id: str = CELL.cell_id) -> list[bytes]:
    """Each user's request: he does not know where he is."""
    return [msgspec.json.encode(build_locate_body(cell_id, csi)) for csi in signals_at(STANDING)]


def batch_body(cell_id: str = CELL.cell_id) -> bytes:
    return msgspec.json.encode({"items": [build_locate_body(cell_id, csi) for csi in signals_at(STANDING)]})


class Change(NamedTuple):
    """An operator's request; what is unlikely is forced."""

    method: str
    path: str
    body: dict[str, Any]

    def send(self, client: httpx.Client, **headers: str) -> httpx.Response:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        content = msgspec.msgpack.encode(self.body)
        return client.request(
            self.method,
            f"{self.path}?force=true&author=test",
            content=content,
            headers={"Content-Type": "application/msgpack"} | headers,
        )


def replacement(number: int, cell_id: str = CELL.cell_id) -> Change:
    """The whole cell, as the version of a number has it."""
    sent = _sent(_fingerprints(GRID, moved(number)))
    body = {"cell": describe_cell(CELL).model_dump(mode="json"), "fingerprints": sent}
    return Change("PUT", f"/cells/{cell_id}", body)


def addition(number: int, base: int, cell_id: str = CELL.cell_id) -> Change:
    """A fingerprint beside each user, for a version whose others are where the version `base` has them."""
    beside = np.random.default_rng(number).uniform(0.2, 0.8, STANDING.shape).astype(np.float32)
    sent = _sent(_fingerprints(STANDING + beside, moved(base), _measured_at(number)))
    return Change("POST", f"/cells/{cell_id}/fingerprints", {"fingerprints": sent})


def change_to(number: int) -> Change:
    """What makes the version of a number out of the one before."""
    base = number - (number - 1) % 5
    match number - base:
        case 0:
            return replacement(number)
        case 1 | 2:
            return addition(number, base)
        case 3:
            body = {"measuredBefore": _time(_measured_at(number - 1))}
            return Change("POST", f"/cells/{CELL.cell_id}/fingerprints/delete", body)
        case _:
            return Change("POST", f"/cells/{CELL.cell_id}/rollback", {"version": max(1, number - 6)})


def answers_of(store: Store, artifact: MateformerArtifact, numbers: Sequence[int]) -> Mapping[str, np.ndarray]:
    """Where each version of the cell puts the users, `[users, 2]` metres, by the version's name: each by itself."""
    session = MateformerSession(artifact, 1, ["CPUExecutionProvider"])
    try:
        return {name: places for number in numbers for name, places in [_answer_of(store, session, number)]}
    finally:
        session.close()


def check_unlike(answers: Mapping[str, np.ndarray]) -> None:
    """`AssertionError` where two versions in a row would answer all users alike: then nothing could be told of them."""
    places = list(answers.values())
    for before, after in pairwise(places):
        assert (np.linalg.norm(after - before, axis=1) > _DIFFERENT_M).any()


def _answer_of(store: Store, session: MateformerSession, number: int) -> tuple[str, np.ndarray]:
    version = CellVersion.assemble(read_contents(store, store.manifest(CELL.cell_id, number)))
    estimator = Estimator(session, USERS, USERS * session.frame_bytes, Metrics())  # which remembers nothing
    nowhere = np.full(2, np.nan, np.float32)
    pairs = signals_at(STANDING).view(np.float32).reshape(USERS, CELL.antennas, CELL.subcarriers, 2)
    users = [User(version, csi, nowhere, np.nan) for csi in pairs]
    estimates = session.submit(estimator.locate, users, Stopwatch()).result()
    return version.version, np.stack([one.position for one in estimates])


def _fingerprints(places: np.ndarray, by: np.ndarray, time: float = 0.0) -> Fingerprints:
    n = len(places)
    return Fingerprints(signals_at(places), places + by, np.full(n, time), np.full(n, 0.05, np.float32))


def _sent(fingerprints: Fingerprints) -> list[dict[str, Any]]:
    """As msgpack carries them."""
    rows = zip(fingerprints.csi, fingerprints.positions.tolist(), fingerprints.times.tolist(), strict=True)
    return [
        {"csi": {"encoding": "complex64", "shape": list(csi.shape), "data": csi.tobytes()}, "x": x, "y": y}
        | ({"time": _time(time)} if time else {})
        for csi, (x, y), time in rows
    ]


def _measured_at(number: int) -> float:
    return 1.7e9 + number


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
