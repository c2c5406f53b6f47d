"""The requests of a soak: of users, valid and invalid, of an operator who changes cells, and of observers."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.soak.client import Request
from benchmarks.updates.operator import file_of, measured_again
from fingerpost import build_locate_body, build_locate_request, build_trajectory_request
from reference_db import Cell, Fingerprints, read_fingerprint_file

CELLS = ("florence-0000", "florence-0001")
BODY_LIMIT = 2**20  # bytes of a user's request; some requests are larger
SNAPSHOTS = 3  # in a trajectory, the number that the tests' artifact needs

_DATA = Path(__file__).parents[1] / "data"
_JSON = {"Content-Type": "application/json"}
_MSGPACK = {"Content-Type": "application/msgpack"}
_FILE = {"Content-Type": "application/octet-stream"}
_FIRST_DAY, _DAY_S = 1.75e9, 86_400.0  # of surveys
_MADE = frozenset({200, 201})


@dataclass(frozen=True)
class Place:
    """A cell, its fingerprints without times, and users with known positions."""

    cell: Cell
    fingerprints: Fingerprints
    users: Fingerprints

    @classmethod
    def read(cls, cell_id: str) -> Place:
        cell, fingerprints = read_fingerprint_file(_DATA / f"{cell_id}-references.safetensors")
        _, users = read_fingerprint_file(_DATA / f"{cell_id}-users.safetensors")
        timeless = replace(fingerprints, times=np.zeros(len(fingerprints.positions)))
        # The model ignores a snapshot's common phase. The tests' artifact for trajectories needs this phase at 0.
        rotated = users.csi * np.exp(-1j * np.angle(users.csi[:, :1, :1]))
        return cls(cell, timeless, replace(users, csi=rotated.astype(np.complex64)))


def user(place: Place, row: int, coarse: dict[str, float] | None = None) -> dict[str, object]:
    return build_locate_body(place.cell.cell_id, place.users.csi[row], coarse)


def fix(place: Place, row: int, random: np.random.Generator, sigma: float = 1.0) -> dict[str, float]:
    x, y = place.users.positions[row] + random.normal(0, sigma, 2)
    return {"x": float(x), "y": float(y), "hAccuracy": sigma}


def users(places: list[Place], seed: int) -> Iterator[Request]:
    """Requests of users, valid and invalid, without end."""
    random = np.random.default_rng(seed)
    invalid = itertools.cycle(_invalid_requests(places[0]))
    kinds = ("no fix", "msgpack", "batch of 16", "batch in JSON", "track", "trajectory", "invalid", "disconnect")
    weights = np.array([30, 30, 8, 4, 12, 4, 10, 2])
    while True:
        place = places[random.integers(len(places))]
        rows = random.integers(len(place.users.positions), size=16).tolist()
        match random.choice(kinds, p=weights / weights.sum()):
            case "no fix":
                yield _located("no fix", user(place, rows[0]))
            case "msgpack":
                yield _located("msgpack", _packed(place, rows[0], fix(place, rows[0], random)), packed=True)
            case "batch of 16":
                items = [_packed(place, row, fix(place, row, random, 3.0)) for row in rows]
                yield _located("batch of 16", {"items": items}, "/locate/batch", packed=True)
            case "batch in JSON":
                items = [user(place, row) for row in rows[:3]] + [{"cellId": "nobody's"}]
                yield _located("batch in JSON", {"items": items}, "/locate/batch")
            case "track":
                tracked = {"trackId": f"{seed}-{random.integers(500)}"}
                yield _located("track", user(place, rows[0], fix(place, rows[0], random)) | tracked)
            case "trajectory":
                near = _nearest(place, rows[0])
                body = build_trajectory_request(place.cell.cell_id, place.users.csi[near])
                yield _located("trajectory", body.model_dump(mode="json"), "/locate/trajectory")
            case "disconnect":
                content = json.dumps(_text(user(place, rows[0]))).encode()
                yield Request("disconnect", "POST", "/locate", content, _JSON, half=True)
            case _:
                yield next(invalid)


def operator(places: list[Place], seed: int) -> Iterator[Request]:
    """Changes of every kind, valid and refused, of one cell after the other. Each round starts from the same cell."""
    random = np.random.default_rng(seed)
    survey = itertools.count()
    while True:
        for place in places:
            yield from _changes(place, random, survey)


def observers(places: list[Place]) -> Iterator[Request]:
    """Requests of Prometheus, of the operators' page, of readers of the documentation, and invalid ones."""
    for turn in itertools.count():
        cell = f"/cells/{places[turn % len(places)].cell.cell_id}"
        for path in (
            "/health/live",
            "/health/ready",
            "/models",
            "/console",
            "/console/assets/console.js",
            "/console/assets/service.js",
            "/cells",
            cell,
            f"{cell}/versions?limit=50",
            f"{cell}/fingerprints?limit=1000",
            f"{cell}/live",
            "/latency",
            f"{cell}/errors?limit=20",
            "/openapi.json",
            "/docs",
        ):
            yield Request("read", "GET", path)
            yield Request("metrics", "GET", "/metrics")
        yield Request("read", "GET", f"{cell}/versions/1/diff/2", statuses=frozenset({200, 404}))
        yield Request("export", "GET", f"{cell}/export")
        yield Request("export", "GET", f"{cell}/export?format=npz")
        yield Request("invalid read", "GET", "/nowhere", statuses=frozenset({404}))
        yield Request("invalid read", "GET", "/cells/nobody's", statuses=frozenset({404}))
        yield Request("invalid read", "DELETE", "/metrics", statuses=frozenset({405}))
        yield Request(
            "invalid read", "GET", "/cells", headers={"Authorization": "Bearer nobody's"}, statuses=frozenset({401})
        )


def _changes(place: Place, random: np.random.Generator, survey: Iterator[int]) -> Iterator[Request]:
    home = f"/cells/{place.cell.cell_id}"

    def survey_file() -> bytes:
        n, seconds = int(random.integers(20, 50)), _FIRST_DAY + _DAY_S * next(survey)
        return file_of(place.cell, measured_again(place.fingerprints, n, seconds, random))

    def append(**headers: str) -> Request:
        return Request("append", "POST", f"{home}/fingerprints", survey_file(), _FILE | headers)

    def sent(method: str, path: str, body: object, kind: str, *statuses: int) -> Request:
        content = msgspec.json.encode(body)
        return Request(kind, method, home + path, content, _JSON, frozenset(statuses or {200}))

    whole = file_of(place.cell, place.fingerprints)
    yield Request("replace", "PUT", home, whole, _FILE, _MADE)
    for _ in range(4):
        yield append()
    once = append(**{"Idempotency-Key": f"survey {next(survey)}"})
    yield once
    yield once
    yield sent("PUT", "/retention", {"maxFingerprints": 2 * len(place.fingerprints.positions)}, "retention")
    x, y = map(float, place.fingerprints.positions[random.integers(len(place.fingerprints.positions))])
    area = {"area": {"west": x - 2, "south": y - 2, "east": x + 2, "north": y + 2}}
    yield sent("POST", "/fingerprints/delete?dryRun=true", area, "preview")
    yield sent("POST", "/fingerprints/delete", area, "delete")
    yield append()
    last = datetime.fromtimestamp(_FIRST_DAY + _DAY_S * next(survey), UTC).isoformat()
    yield sent("POST", "/fingerprints/delete", {"measuredBefore": last}, "delete")
    yield sent("PUT", "/model", {"policy": "auto"}, "refused change", 409)  # the policy is "auto" already
    yield sent("POST", "/rollback", {"version": 1}, "rollback")
    yield Request("refused change", "POST", f"{home}/fingerprints", b"no fingerprints", _FILE, frozenset({400}))
    other = append(**{"If-Match": '"1-000000000000"'})
    yield Request("refused change", "POST", other.path, other.content, other.headers, frozenset({412}))
    yield sent("POST", "/rollback", {"version": 999_999}, "refused change", 404)
    yield Request("disconnect", "POST", f"{home}/fingerprints", survey_file(), _FILE, half=True)


def _invalid_requests(place: Place) -> list[Request]:
    good = _text(user(place, 0))
    csi = good["csi"]
    assert isinstance(csi, dict)
    nan = base64.b64encode(np.full(csi["shape"], np.nan, np.complex64).tobytes()).decode()
    cases: list[tuple[object, int]] = [
        ({}, 400),
        ([], 400),
        (good | {"cellId": "nowhere"}, 404),
        (good | {"unheard": "of"}, 400),
        (good | {"csi": csi | {"data": "no base64"}}, 400),
        (good | {"csi": csi | {"shape": [3, 3]}}, 400),
        (good | {"coarsePosition": {"x": 1e5, "y": 1e5, "hAccuracy": 1.0}}, 422),
        (good | {"coarsePosition": {"lat": 1.0, "x": 2.0, "hAccuracy": 1.0}}, 400),
        (good | {"timestamp": "yesterday"}, 400),
        (good | {"requestId": "x" * 200}, 400),
        (good | {"csi": csi | {"encoding": "complex64", "data": nan}}, 400),  # the client refuses to build it
        (_text(build_locate_body(place.cell.cell_id, np.zeros((32, 32), np.complex64))), 400),
        (good | {"maxRespTime": 1e-9}, 504),
    ]
    requests = [_invalid(json.dumps(body).encode(), _JSON, status) for body, status in cases]
    whole = requests[-1].content
    raw = [
        (b"", _JSON, 400),
        (whole[:-20], _JSON, 400),
        (b"\xff" * 1000, _MSGPACK, 400),
        (whole, {"Content-Type": "text/plain"}, 415),
        (b"{" * 100_000, _JSON, 400),
        (b" " * (BODY_LIMIT + 1), _JSON, 413),
    ]
    return requests + [_invalid(*one) for one in raw]


def _invalid(body: bytes, headers: dict[str, str], status: int) -> Request:
    return Request("invalid", "POST", "/locate", body, headers, frozenset({status}))


def _located(kind: str, body: object, path: str = "/locate", *, packed: bool = False) -> Request:
    content = msgspec.msgpack.encode(body) if packed else msgspec.json.encode(body)
    return Request(kind, "POST", path, content, _MSGPACK if packed else _JSON)


def _packed(place: Place, row: int, coarse: dict[str, float]) -> dict[str, object]:
    """A user's request for msgpack, with raw bytes."""
    sent = build_locate_request(place.cell.cell_id, place.users.csi[row]).model_dump()
    return sent | {"coarsePosition": coarse}


def _nearest(place: Place, row: int) -> list[int]:
    away = np.hypot(*(place.users.positions - place.users.positions[row]).T)
    nearest: list[int] = np.argsort(away)[:SNAPSHOTS].tolist()
    return nearest


def _text(request: dict[str, object]) -> dict[str, object]:
    """The request as JSON types."""
    text: dict[str, object] = json.loads(msgspec.json.encode(request))
    return text
