"""Measures the memory of cells, and the bytes of users on the wire: ``python -m benchmarks.sizing.measure``.

An operator creates cells of 2,000 fingerprints over HTTP in a real Redis. A new replica then locates one user in each.
Writes ``benchmarks/results/replica_cost.json`` and ``.md``; `benchmarks.sizing` reads the JSON.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import msgspec
import numpy as np
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from benchmarks.serving.cells import street
from benchmarks.serving.served_models import shipped
from benchmarks.serving.servers import Server, fingerpost, running
from benchmarks.serving.workload import ACCURACY_M, spread_users
from benchmarks.sizing.cost import APPENDED, ReplicaCost, Wire
from benchmarks.updates.operator import Operator, file_of, measured_again
from fingerpost import Client, build_locate_request
from fingerpost.wire import BatchRequest, CoarsePosition, Csi, LocateRequest
from tests.redis_servers import RedisServer

RESULTS = Path("benchmarks/results")
CELLS, IDLE_S, BATCH = 16, 20.0, 16
_PATH = {1: "/locate", BATCH: "/locate/batch"}
_MEDIA_TYPES = {"msgpack": "application/msgpack", "JSON": "application/json"}
# The stated accuracy is not used, so a short calibration is enough.
_SURVEYED = 1.75e9  # Unix time of the appended fingerprints
_CALIBRATION = {"FINGERPOST_CALIBRATION_SAMPLES": "20", "FINGERPOST_CALIBRATION_SIGMAS_M": "[1.0]"}


def measure(cells: int, idle_s: float, folder: Path) -> ReplicaCost:
    redis = RedisServer(folder / "redis")
    try:
        with redis.client() as client:
            grown, appended = _created(client, redis.url, cells)
            command = fingerpost(redis.url, shipped().folder)
            alone = {**command.environment, "FINGERPOST_ENCODE_AHEAD": "false"}  # every frame is that of a user
            with running(replace(command, environment=alone)) as server:
                return _served(server, client, cells, idle_s, grown, appended)
    finally:
        redis.kill()


def _created(redis: Redis, url: str, cells: int) -> tuple[float, float]:
    """Bytes in Redis of a cell, and of one more version of a cell."""
    command = fingerpost(url, shipped().folder)
    empty = _used(redis)
    with running(command) as server:
        for number in range(cells):
            operator = Operator(server.url, street(number)[0])
            operator.create(street(number)[1])
            operator.close()
        created = _used(redis)
        cell, fingerprints = street(0)
        operator = Operator(server.url, cell)
        operator.append(file_of(cell, measured_again(fingerprints, APPENDED, _SURVEYED, np.random.default_rng(0))))
        operator.close()
        return (created - empty) / cells, _used(redis) - created


def _served(
    server: Server, redis: Redis, cells: int, idle_s: float, redis_bytes: float, append_bytes: float
) -> ReplicaCost:
    sent, memory, squares = _traffic(redis, "output"), [], []
    with Client(server.url) as client:
        for number in range(cells):
            cell, fingerprints = street(number)
            users = spread_users(cell, fingerprints)
            squares.append(len(users))
            client.locate(cell.cell_id, users.csi[0], _coarse(users.coarse[0]))
            caches = [_metric(server, f"fingerpost_{name}_cache_bytes") for name in ("frame", "feature")]
            memory.append(server.usage().memory_bytes - sum(caches))
    loaded = (_traffic(redis, "output") - sent) / cells
    cell_bytes, replica_bytes = np.polyfit(np.arange(1, cells + 1), memory, 1)
    before = _traffic(redis, "input") + _traffic(redis, "output")
    time.sleep(idle_s)
    followed = _traffic(redis, "input") + _traffic(redis, "output") - before
    frames = _metric(server, "fingerpost_frame_cache_lookups_total", result="miss")
    loads = "fingerpost_cell_load_duration_seconds"
    return ReplicaCost(
        date=datetime.now(UTC).date().isoformat(),
        cells=cells,
        fingerprints=len(street(0)[1]),
        tiles=float(np.mean(squares)),
        replica_bytes=float(replica_bytes),
        cell_bytes=float(cell_bytes),
        frame_bytes=_metric(server, "fingerpost_frame_cache_bytes") / frames,
        cell_load_s=_metric(server, f"{loads}_sum") / _metric(server, f"{loads}_count"),
        redis_bytes=redis_bytes,
        redis_append_bytes=append_bytes,
        load_bytes=loaded,
        follow_bytes_per_s=followed / idle_s / cells,
        wire=list(_wire(server.url)),
    )


def _wire(url: str) -> Iterator[Wire]:
    users = spread_users(*street(0)).part(slice(BATCH))
    with httpx.Client(base_url=url, timeout=60) as client:
        for format, media_type in _MEDIA_TYPES.items():
            for encoding in ("complex64", "complex32"):
                everybody = [
                    _in(encoding, build_locate_request(users.cell_id, csi, _coarse(place)))
                    for csi, place in zip(users.csi, users.coarse, strict=True)
                ]
                for count in (1, BATCH):
                    body = everybody[0] if count == 1 else BatchRequest(items=everybody)
                    encoded = (
                        msgspec.msgpack.encode(body.model_dump())
                        if format == "msgpack"
                        else body.model_dump_json().encode()
                    )
                    answer = client.post(_PATH[count], content=encoded, headers={"Content-Type": media_type})
                    assert answer.is_success, answer.text
                    sent, came = _heads(answer)
                    yield Wire(
                        format, encoding, count, (sent + len(encoded)) / count, (came + len(answer.content)) / count
                    )


def _heads(answer: httpx.Response) -> tuple[int, int]:
    """Bytes of the heads of a request and of its answer in HTTP/1.1."""
    request = answer.request
    lines = len(f"{request.method} {request.url.raw_path.decode()} HTTP/1.1\r\n\r\n")
    status = len(f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}\r\n\r\n")
    return lines + _bytes_of(request.headers.raw), status + _bytes_of(answer.headers.raw)


def _bytes_of(headers: Sequence[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) + len(": \r\n") for name, value in headers)


def _in(encoding: str, user: LocateRequest) -> LocateRequest:
    if encoding == "complex64":
        return user
    csi = np.frombuffer(user.csi.data, "<c8")
    scale = float(np.abs(csi).max())
    halves = (csi / scale).astype(np.complex64).view(np.float32).astype("<f2")
    half = Csi(encoding="complex32", shape=user.csi.shape, data=halves.tobytes(), scale=scale)
    return user.model_copy(update={"csi": half})


def _coarse(place: NDArray[np.float32]) -> CoarsePosition:
    return CoarsePosition(x=float(place[0]), y=float(place[1]), h_accuracy=ACCURACY_M)


def _metric(server: Server, name: str, **labels: str) -> float:
    text = httpx.get(f"{server.url}/metrics", timeout=60).text
    families = text_string_to_metric_families(text)
    return next(
        float(sample.value)
        for family in families
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    )


def _used(redis: Redis) -> float:
    """Memory of all keys. Redis's total would vary with its clients' buffers."""
    return float(sum(redis.memory_usage(key, samples=0) or 0 for key in redis.scan_iter()))


def _traffic(redis: Redis, way: str) -> float:
    return float(redis.info("stats")[f"total_net_{way}_bytes"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the memory of cells and the bytes of users on the wire.")
    parser.parse_args()
    os.environ |= _CALIBRATION
    with tempfile.TemporaryDirectory() as folder:
        cost = measure(CELLS, IDLE_S, Path(folder))
    (RESULTS / "replica_cost.json").write_bytes(msgspec.json.format(msgspec.json.encode(cost), indent=1) + b"\n")
    (RESULTS / "replica_cost.md").write_text(cost.markdown() + "\n")
    print(cost.markdown())


if __name__ == "__main__":
    main()
