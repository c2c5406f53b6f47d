"""A full disk, a full Redis, and too little memory: whoever needs more is told, all others are served, and it heals."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import onnxruntime as ort
import psutil
import pytest
from onnx import TensorProto, helper

from models.artifact import Graph, TensorSpec
from reference_db import DirectoryStore, Fingerprints, import_fingerprints
from service.inference.bound_graph import BoundGraph
from tests.redis_servers import RedisServer, empty, keys_of
from tests.service import changing_cell
from tests.service.plane_cell import make_cell
from tests.service.readers import reading
from tests.service.replicas import Replica, running
from tests.service.tiny_artifact import write_tiny_artifact
from tests.service.tiny_cell import ORIGIN
from tests.service.updates.wire import assert_problem

USERS = [("/locate", body) for body in changing_cell.request_bodies()]
ANSWERS = 30
DISK_BYTES = 2 * 2**20
HEADROOM_BYTES = 64 * 2**20  # threads' stacks and the like
NEEDY_BYTES = 128 * 2**20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Not a byte more goes onto the disk."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    try:
        yield
    finally:
        filler.unlink()


def created(replica: Replica) -> str:
    answer = changing_cell.replacement(1).send(replica.client)
    assert answer.status_code == 201, answer.text
    version: str = answer.json()["version"]
    return version


def changed(replica: Replica) -> httpx.Response:
    return changing_cell.addition(2, base=1).send(replica.client)


def test_a_full_disk_refuses_versions_and_nothing_else(disk: Path, tiny_artifact: Path, tmp_path: Path) -> None:
    with running(disk / "database", tiny_artifact, tmp_path / "log") as replica:
        version = created(replica)
        with reading(replica.port, USERS) as readers:
            readers.wait_for_version(version)
            with full(disk):
                for _ in range(3):
                    assert_problem(changed(replica), 507, "STORAGE_FULL")
                located = readers.wait_for(ANSWERS)
                assert {one for answer in located for one in answer.versions} == {version}
                assert replica.version("changing") == version
            assert not list((disk / "database").rglob("drafts/*"))
            answer = changed(replica)
            assert answer.status_code == 200, answer.text
            readers.wait_for_version(answer.json()["version"])
    assert {answer.status for answer in readers.answers} == {200}
    assert DirectoryStore(disk / "database").numbers("changing") == [1, 2]


def test_a_full_disk_for_uploads_refuses_them_and_nothing_else(
    disk: Path, tiny_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(disk))
    with running(tmp_path / "database", tiny_artifact, tmp_path / "log") as replica:
        version = created(replica)
        with reading(replica.port, USERS) as readers:
            readers.wait_for_version(version)
            with full(disk):
                assert_problem(changed(replica), 507, "STORAGE_FULL")
                assert_problem(replica.client.get("/cells/changing/export"), 507, "STORAGE_FULL")
                readers.wait_for(ANSWERS)
            assert changed(replica).status_code == 200
            assert replica.client.get("/cells/changing/export").status_code == 200
    assert {answer.status for answer in readers.answers} == {200}


def test_a_full_redis_refuses_versions_and_nothing_else(
    redis_server: RedisServer, tiny_artifact: Path, tmp_path: Path
) -> None:
    empty(redis_server)
    with running(redis_server.url, tiny_artifact, tmp_path / "log") as replica, redis_server.client() as redis:
        version = created(replica)
        before = keys_of(redis_server)
        with reading(replica.port, USERS) as readers:
            readers.wait_for_version(version)
            try:
                redis.config_set("maxmemory", redis.info("memory")["used_memory"])
                assert_problem(changing_cell.replacement(2).send(replica.client), 507, "STORAGE_FULL")
                assert keys_of(redis_server) == before
                assert replica.version("changing") == version
                readers.wait_for(ANSWERS)
            finally:
                redis.config_set("maxmemory", 0)
            answer = changing_cell.replacement(2).send(replica.client)
            assert answer.status_code == 200, answer.text
            readers.wait_for_version(answer.json()["version"])
    assert {answer.status for answer in readers.answers} == {200}


@contextmanager
def scarce(replica: Replica) -> Iterator[None]:
    """The service's process gets hardly more memory than it has."""
    process = psutil.Process(replica.process.pid)
    limits = process.rlimit(psutil.RLIMIT_AS)
    process.rlimit(psutil.RLIMIT_AS, (process.memory_info().vms + HEADROOM_BYTES, limits[1]))
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_AS, limits)


def test_what_needs_more_memory_than_there_is_is_refused_and_others_are_served(tmp_path: Path) -> None:
    artifact, database = tmp_path / "wide", tmp_path / "database"
    artifact.mkdir()
    # Of 512 fingerprints each user is compared with 4 MiB; there are no frames.
    write_tiny_artifact(artifact, neighbours=512)
    store, random = DirectoryStore(database), np.random.default_rng(0)
    for cell_id, n in (("large", 40_000), ("changing", 1000)):
        positions = random.uniform((20, -30), (80, 30), (n, 2)).astype(np.float32)
        fingerprints = Fingerprints(
            changing_cell.signals_at(positions), positions, np.zeros(n), np.full(n, 0.05, np.float32)
        )
        import_fingerprints(store, make_cell(cell_id), fingerprints, {}, ORIGIN)
    user = msgspec.json.decode(USERS[0][1])
    in_large, many = user | {"cellId": "large"}, {"items": [user] * 64}
    upload = msgspec.msgpack.encode({"fingerprints": [{"csi": bytes(NEEDY_BYTES)}]})
    with running(database, artifact, tmp_path / "log", upload_limit_bytes=2 * NEEDY_BYTES) as replica:

        def asked(path: str, body: dict[str, Any]) -> httpx.Response:
            return replica.client.post(path, json=body)

        def sent() -> httpx.Response:
            headers = {"Content-Type": "application/msgpack"}
            return replica.client.post("/cells/changing/fingerprints", content=upload, headers=headers)

        with reading(replica.port, USERS, threads=1) as readers:
            readers.wait_for(ANSWERS)
            with scarce(replica):
                refused = [asked("/locate", in_large), sent()]
                together = asked("/locate/batch", many)
                readers.wait_for(ANSWERS)
                assert replica.client.get("/health/ready").status_code == 200
            for answer in refused:
                assert_problem(answer, 503, "OUT_OF_MEMORY")
                assert answer.headers["retry-after"] == "5"
            assert "problem" not in together.text  # of whom fewer were located at once
            assert asked("/locate", in_large).status_code == 200
            assert_problem(sent(), 400, "MANDATORY_IE_INCORRECT", "/fingerprints/0/csi")
    assert {answer.status for answer in readers.answers} == {200}


def test_memory_that_onnx_runtime_does_not_get_is_told_from_other_failures() -> None:
    shapes: dict[str, list[int | str]] = {"x": ["n"], "size": [1], "y": ["m"]}
    kinds = {"x": TensorProto.FLOAT, "size": TensorProto.INT64, "y": TensorProto.FLOAT}
    x, size, y = (helper.make_tensor_value_info(name, kinds[name], shape) for name, shape in shapes.items())
    graph = helper.make_graph([helper.make_node("Expand", ["x", "size"], ["y"])], "greedy", [x, size], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    specs = [TensorSpec(name=name, dtype="float32", shape=shape) for name, shape in shapes.items()]
    bound = BoundGraph(session, Graph(file="y.onnx", sha256="0" * 64, inputs=specs[:2], outputs=specs[2:]), {})
    one = np.ones(1, np.float32)
    with pytest.raises(MemoryError):
        bound.run({"x": one, "size": np.array([10**13])})
    assert bound.run({"x": one, "size": np.array([2])})["y"].shape == (2,)
    with pytest.raises(Exception, match="Expand") as caught:
        bound.run({"x": np.ones(3, np.float32), "size": np.array([2])})
    assert not isinstance(caught.value, MemoryError)
