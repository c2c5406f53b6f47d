"""The reference database goes away, hangs, is damaged or says nothing while users are located; all of it real."""

import socket
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference_db import open_store, replace_cell
from tests.damage import damage
from tests.redis_servers import RedisServer, empty, wait_until
from tests.service import changing_cell
from tests.service.plane_cell import fingerprints_at
from tests.service.readers import reading
from tests.service.replicas import NEVER_S, running
from tests.service.running import running as in_this_process
from tests.service.running import tiny_request
from tests.service.store_outages import REQUESTS, check_unavailable, live_through
from tests.service.tiny_cell import ORIGIN
from tests.service.tiny_lwlm_artifact import write_tiny_lwlm_artifact
from tests.service.tiny_service import make_tiny_settings
from tests.service.updates.wire import DESCRIPTION, on_a_line, sent

Plant = Callable[[str, bytes], None]  # bytes under a segment's digest


@pytest.fixture(params=["directory", "redis_server"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Plant]:
    """A database, and how to put a segment into it behind everybody's back."""
    if request.param == "directory":
        version = tmp_path / "database" / "cells" / "changing" / "versions" / "0000000001"
        return str(tmp_path / "database"), lambda name, data: damage(version / f"{name}.safetensors", data)
    server: RedisServer = request.getfixturevalue("redis_server")
    empty(server)
    return server.url, lambda name, data: put(server, f"fingerpost:{{changing}}:segment:{name}", data)


def put(server: RedisServer, key: str, data: bytes) -> None:
    with server.client() as client:
        client.set(key, data)


@pytest.mark.usefixtures("redis_here")
def test_users_are_located_while_redis_is_gone_or_hangs_and_no_version_is_lost(
    tiny_artifact: Path, tmp_path: Path
) -> None:
    acknowledged, located = live_through(tiny_artifact, tmp_path, outages=2)
    assert acknowledged == 3
    assert located > 0


def test_a_flipped_byte_leaves_the_last_good_version_in_place_and_the_next_one_takes_over(
    database: tuple[str, Plant], tiny_artifact: Path, tmp_path: Path
) -> None:
    address, plant = database
    with running(address, tiny_artifact, tmp_path / "log") as replica:
        good = changing_cell.replacement(1).send(replica.client).json()["version"]
        with reading(replica.port, REQUESTS) as readers:
            readers.wait_for_version(good)
            damaged = publish_damaged(address, plant)
            wait_until(lambda: f"stays at version {good}" in replica.log.read_text(), "nobody saw the damage")
            assert replica.version("changing") == damaged
            assert {version for one in readers.wait_for(20) for version in one.versions} == {good}
            refused = changing_cell.addition(3, base=1).send(replica.client)
            assert (refused.status_code, refused.json()["cause"]) == (500, "CELL_UNREADABLE")
            back = replica.client.post("/cells/changing/rollback", json={"version": good})
            assert back.status_code == 200, back.text
            readers.wait_for_version(back.json()["version"])
    assert {one.status for one in readers.answers} == {200}
    assert {version for one in readers.answers for version in one.versions} == {good, back.json()["version"]}


def publish_damaged(address: str, plant: Plant) -> str:
    """Makes a version current one of whose segments is there already, but for a bit; its name."""
    store = open_store(address)
    before = store.current("changing")
    assert before is not None
    update = replace_cell(before, before.cell, fingerprints_at(changing_cell.GRID + np.float32(512)), ORIGIN)
    for reference, data in zip(update.manifest.segments, update.segments, strict=True):
        plant(reference.digest, data[:-100] + bytes([data[-100] ^ 1]) + data[-99:])
    store.publish(update.manifest, (), before.digest)
    store.close()
    return update.manifest.version


def test_replicas_hear_of_each_others_versions_and_look_where_they_hear_nothing(
    redis_server: RedisServer, tiny_artifact: Path, tmp_path: Path
) -> None:
    empty(redis_server)
    with (
        running(redis_server.url, tiny_artifact, tmp_path / "1.log", follow_period_s=NEVER_S) as only_listening,
        running(redis_server.url, tiny_artifact, tmp_path / "2.log", follow_period_s=0.2) as looking_too,
        reading(only_listening.port, REQUESTS, threads=1) as of_one,
        reading(looking_too.port, REQUESTS, threads=1) as of_other,
    ):
        created = changing_cell.replacement(1).send(only_listening.client).json()["version"]
        of_one.wait_for_version(created)
        of_other.wait_for_version(created)

        with redis_server.client() as client:
            client.xadd("fingerpost:versions", {"foo": "bar"})
            client.xadd("fingerpost:versions", {"cell": b"\xff"})
        heard = changing_cell.addition(2, base=1).send(looking_too.client).json()["version"]
        of_one.wait_for_version(heard)

        put(redis_server, "fingerpost:versions", b"no stream")  # nobody can tell anything any more
        unheard = changing_cell.addition(3, base=1).send(only_listening.client).json()["version"]
        of_other.wait_for_version(unheard)

        with redis_server.client() as client:
            client.delete("fingerpost:versions")
        heard = changing_cell.addition(4, base=1).send(looking_too.client).json()["version"]
        of_one.wait_for_version(heard)


def bodies() -> dict[str, Any]:
    """A good body for each route that takes one."""
    user, rows = tiny_request(1), sent(on_a_line(0, 20))
    return {
        "/locate": user,
        "/locate/batch": {"items": [user]},
        "/locate/trajectory": {"cellId": "c", "snapshots": [{"csi": user["csi"]}] * 5},
        "/measure": {"cellId": "c", "csi": user["csi"]},
        "/cells/{cellId}": {"cell": DESCRIPTION, "fingerprints": rows},
        "/cells/{cellId}/retention": {"maxAgeS": 3600},
        "/cells/{cellId}/model": {"policy": "mateformer"},
        "/cells/{cellId}/fingerprints": {"fingerprints": rows},
        "/cells/{cellId}/fingerprints/delete": {"ids": ["0" * 16]},
        "/cells/{cellId}/fingerprints/forget": {"ids": ["0" * 16]},
        "/cells/{cellId}/rollback": {"version": 1},
        "/cells/{cellId}/truths": {"items": [{"csi": user["csi"], "x": 30.0, "y": 0.0, "sigma": 0.05}]},
    }


@pytest.mark.anyio
async def test_without_redis_every_route_answers_or_says_that_the_database_cannot_be_reached(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # connections to this port are refused
        redis = f"redis://127.0.0.1:{nobody.getsockname()[1]}"
        measuring = write_tiny_lwlm_artifact(tmp_path / "lwlm").directory
        shipped = Path(__file__).parents[2] / "models" / "artifacts" / "scadf-moe"
        models = {"lwlm_artifact_directory": measuring, "trajectory_artifact_directory": shipped}
        tiny = make_tiny_settings(tmp_path, redis_url=redis, console_live=True, **models)
        async with in_this_process(tiny) as client:
            document = (await client.get("/openapi.json")).json()
            answers = {}
            for path, operations in document["paths"].items():
                names = {"{cellId}": "c", "{version}": "1", "{other}": "2", "{folder}": tmp_path.name}
                concrete = reduce(lambda one, name: one.replace(*name), names.items(), path)
                for method, operation in operations.items():
                    body = bodies()[path] if "requestBody" in operation else None
                    answers[method, path] = await client.request(method, concrete, json=body)
            pages = [(await client.get(path)).status_code for path in ("/", "/docs", "/console", "/openapi.json")]
    for (_, path), answer in answers.items():
        if path == "/cells/{cellId}/change":
            assert answer.json() == {"cellId": "c"}  # this replica changes no cell now
        elif path.startswith("/cells") or path in ("/locate", "/locate/trajectory", "/measure"):
            check_unavailable(answer)
        else:
            assert answer.status_code in (200, 503), (path, answer.text)  # readiness may ask the store
    assert answers["post", "/locate/batch"].json()["results"][0]["problem"]["cause"] == "STORE_UNAVAILABLE"
    assert pages == [307, 200, 200, 200]
