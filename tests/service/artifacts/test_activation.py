"""One artifact in another one's place, in real processes under load."""

import asyncio
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest

from fingerpost import build_locate_body
from models.artifact import MateformerArtifact, read_manifest
from reference_db import DirectoryStore, Fingerprints, import_fingerprints
from service.artifacts.activation import Activation
from service.artifacts.installation import ActiveArtifact
from service.errors import ActivationInProgress, ServiceError
from service.settings import Settings
from tests.service import bad_artifacts, changing_cell, running
from tests.service.bad_artifacts import change_manifest
from tests.service.learned_cells import (
    ANTENNAS,
    BANDWIDTH,
    CARRIER,
    LEARNED,
    SUBCARRIERS,
    fill,
    local_points,
    trajectory,
    write_artifacts,
)
from tests.service.measured_cells import create_cells, heard_from, measured_cell, write_measuring_artifacts
from tests.service.readers import reading
from tests.service.replicas import Replica
from tests.service.replicas import running as replica_of
from tests.service.serving import serving
from tests.service.tiny_artifact import only, write_tiny_artifact
from tests.service.tiny_cell import ORIGIN
from tests.service.tiny_lwlm_artifact import CONTRACT, write_tiny_lwlm_artifact
from tests.service.tiny_trajectory_artifact import write_tiny_trajectory_artifact

NEAR_M = 0.01
BESIDE_M = 0.25  # an artifact's answers from those of the one that its folder is named after
ROOM = {"frame_cache_bytes": 4096}


def write(folder: Path, beside: float = 0.0, **knobs: Any) -> MateformerArtifact:
    folder.mkdir(parents=True)
    return write_tiny_artifact(folder, **{"tile_pitch": 2.0} | knobs, beside=beside)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifacts")
    write(folder / "middle")
    write(folder / "beside", BESIDE_M)
    return folder


@pytest.fixture(scope="module")
def replica(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """The artifact `middle` serves, and users are located in a cell."""
    folder = tmp_path_factory.mktemp("replica")
    with replica_of(folder / "database", artifacts / "middle", folder / "log", **ROOM) as replica:
        created = changing_cell.replacement(1).send(replica.client)
        assert created.status_code == 201, created.text
        yield replica


def activated(client: httpx.Client, folder: str, **params: str) -> httpx.Response:
    return client.post(f"/models/{folder}:activate", params=params)


def states(client: httpx.Client) -> dict[str, str]:
    models = client.get("/models").json()["models"]
    return {model["folder"]: model["state"] for model in models if model["family"] == "mateformer"}


def user(number: int = 0) -> dict[str, Any]:
    asked: dict[str, Any] = json.loads(changing_cell.request_bodies()[number])
    return asked


def test_users_are_located_without_a_gap_while_artifacts_take_turns(replica: Replica, artifacts: Path) -> None:
    digests = {name: read_manifest(artifacts / name)[1] for name in ("middle", "beside")}
    asked = [("/locate", body) for body in changing_cell.request_bodies()] + [
        ("/locate/batch", changing_cell.batch_body())
    ]
    with reading(replica.port, asked) as readers:
        readers.wait_for(20)
        for name in ["beside", "middle"] * 4:
            answer = activated(replica.client, name)
            assert answer.status_code == 200, answer.text
            assert states(replica.client) == {"middle": "available", "beside": "available"} | {name: "active"}
            located = readers.wait_for(20)
            assert {one for answer in located for one in answer.artifacts} == {digests[name]}
            assert replica.metric(info_of(replica, digests[name])) == 1
            assert replica.client.get("/health/ready").status_code == 200
    assert {answer.status for answer in readers.answers} == {200}
    places = {name: places_of(readers.answers, digest) for name, digest in digests.items()}
    assert places["middle"].keys() == places["beside"].keys() == set(range(len(asked)))
    for body, middle in places["middle"].items():
        # Those of one artifact are all alike, and none is a mixture of both.
        np.testing.assert_allclose(middle, middle[:1].repeat(len(middle), 0), atol=NEAR_M)
        beside = places["beside"][body]
        np.testing.assert_allclose(beside, (middle[:1] + BESIDE_M).repeat(len(beside), 0), atol=NEAR_M)


def places_of(answers: list[Any], digest: str) -> dict[int, np.ndarray]:
    """Of each body that the artifact answered, every answer: `[answers, users, 2]`."""
    found: dict[int, list[Any]] = {}
    for answer in answers:
        (artifact,) = set(answer.artifacts)  # a request sees one from end to end
        if artifact == digest:
            found.setdefault(answer.body, []).append(answer.places)
    return {body: np.array(places) for body, places in found.items()}


def info_of(replica: Replica, digest: str) -> str:
    (line,) = (line for line in replica.client.get("/metrics").text.splitlines() if "fingerpost_artifact_info{" in line)
    name = line.rpartition(" ")[0]
    assert digest in name
    return name


def test_tiles_in_use_are_encoded_before_the_switch(replica: Replica) -> None:
    located = [replica.client.post("/locate", json=user(number)) for number in range(changing_cell.USERS)]
    assert {one.status_code for one in located} == {200}
    name = next(name for name, state in states(replica.client).items() if state == "available")
    assert activated(replica.client, name).status_code == 200
    missed = replica.metric('fingerpost_frame_cache_lookups_total{result="miss"}')
    for number in range(changing_cell.USERS):
        replica.client.post("/locate", json=user(number))
    assert replica.metric('fingerpost_frame_cache_lookups_total{result="miss"}') == missed
    assert replica.metric("fingerpost_frame_cache_bytes") > 0


def test_an_artifact_that_serves_already_is_left_alone(replica: Replica) -> None:
    (active,) = (name for name, state in states(replica.client).items() if state == "active")
    told = len(replica.log.read_text())
    assert activated(replica.client, active).status_code == 200
    assert "is active" not in replica.log.read_text()[told:]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (bad_artifacts.flipped, "query.onnx: sha256 is"),
        (bad_artifacts.of_another_schema, "artifact.json: .*schema_version"),
        (bad_artifacts.without_a_graph, "frame.onnx does not exist"),
        (bad_artifacts.is_no_onnx, "full.onnx: not an ONNX file"),
        (bad_artifacts.reads_other_files, "tensors outside the file are refused"),
        (bad_artifacts.names_another_input, "failed to run: .*features_known"),
        (bad_artifacts.answers_nan, "not finite"),
        (bad_artifacts.answers_otherwise_by_frames, "another position than the graph full"),
    ],
)
def test_a_bad_artifact_leaves_the_old_one_serving_and_is_told_why(
    replica: Replica, artifacts: Path, damage: Callable[[Path], None], reason: str
) -> None:
    before = states(replica.client)
    expected = replica.client.post("/locate", json=user()).json()["provenance"]["artifact"]
    try:
        write(artifacts / "bad", beside=0.1)  # differs from the active one, which would be left alone
        damage(artifacts / "bad")
        check_refused(activated(replica.client, "bad"), reason, artifacts)
    finally:
        shutil.rmtree(artifacts / "bad")
    assert states(replica.client) == before
    assert replica.client.post("/locate", json=user()).json()["provenance"]["artifact"] == expected


@pytest.mark.parametrize(
    ("knobs", "reason"),
    [
        ({"radios": only(16)}, "cell changing: antennas is 32, the artifact was trained on 16"),
        ({"minimum": 200, "neighbours": 300}, "cell changing: the cell has 100 fingerprints, it needs 200"),
        ({"beside": 40.0}, "cell changing: the median error on the cell's own fingerprints rises from"),
    ],
)
def test_an_artifact_that_cannot_serve_the_cells_there_are_is_refused(
    replica: Replica, artifacts: Path, knobs: dict[str, Any], reason: str
) -> None:
    before = states(replica.client)
    replica.client.post("/locate", json=user())
    try:
        write(artifacts / "unfit", **knobs)
        check_refused(activated(replica.client, "unfit"), reason, artifacts)
    finally:
        shutil.rmtree(artifacts / "unfit")
    assert states(replica.client) == before


def test_a_far_worse_artifact_serves_where_it_is_forced(replica: Replica, artifacts: Path) -> None:
    (active,) = (name for name, state in states(replica.client).items() if state == "active")
    replica.client.post("/locate", json=user())
    try:
        write(artifacts / "far", beside=40.0)
        refused = activated(replica.client, "far")
        assert refused.status_code == 409
        assert "--force or force=true activates it anyway" in refused.json()["detail"]
        assert activated(replica.client, "far", force="true").status_code == 200
        assert replica.client.post("/locate", json=user()).status_code == 200
        assert states(replica.client)["far"] == "active"
    finally:
        shutil.rmtree(artifacts / "far")
    assert states(replica.client)["far"] == "active"  # whether its files are there or not
    assert activated(replica.client, active).status_code == 200
    assert "far" not in states(replica.client)


def check_refused(answer: httpx.Response, reason: str, artifacts: Path) -> None:
    assert (answer.status_code, answer.json().get("cause")) == (409, "ARTIFACT_REFUSED"), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    detail = answer.json()["detail"]
    assert re.search(reason, detail, re.DOTALL), detail
    assert str(artifacts) not in detail


@pytest.mark.parametrize("folder", ["nowhere", "..", ".", "..%2Fmiddle", "%2Fetc", "middle%2F..%2Fmiddle", "mid\x00"])
def test_only_folders_below_the_one_configured_can_be_named(replica: Replica, folder: str) -> None:
    answer = replica.client.post(f"/models/{folder}:activate".replace("\x00", "%00"))
    assert answer.status_code == 404, answer.text


def test_what_cannot_be_read_is_listed_apart(replica: Replica, artifacts: Path) -> None:
    (artifacts / "odd").mkdir()
    try:
        (artifacts / "odd" / "artifact.json").write_text("{}")
        listed = replica.client.get("/models").json()
    finally:
        shutil.rmtree(artifacts / "odd")
    (odd,) = listed["unusable"]
    assert odd["folder"] == "odd"
    assert "family" in odd["reason"]
    assert str(artifacts) not in odd["reason"]


def test_the_settings_name_what_serves_after_a_restart(replica: Replica) -> None:
    models = replica.client.get("/models").json()["models"]
    assert {model["folder"]: model["family"] for model in models if model["configured"]} == {"middle": "mateformer"}


@pytest.mark.anyio
async def test_of_two_activations_at_once_one_is_told(artifacts: Path, tmp_path: Path) -> None:
    settings = Settings(artifact_directory=artifacts / "middle", database_directory=tmp_path, **ROOM)
    async with running.running(settings) as client:
        answers = await asyncio.gather(*(client.post("/models/beside:activate?force=true") for _ in range(2)))
        causes = [answer.json().get("cause") for answer in answers]
        again = await client.post("/models/middle:activate?force=true")
    assert sorted(causes, key=str) == ["ACTIVATION_IN_PROGRESS", None]
    assert again.status_code == 200


def test_memory_does_not_grow_with_the_artifacts_that_have_served(artifact_directory: Path, tmp_path: Path) -> None:
    """The shipped network, and one that differs in its version only."""
    for number in range(2):
        folder = Path(shutil.copytree(artifact_directory, tmp_path / f"v{number}"))
        change_manifest(folder, version=f"v{number}")
    resident = []
    with replica_of(tmp_path / "database", tmp_path / "v0", tmp_path / "log", frame_cache_bytes=2**24) as replica:
        assert changing_cell.replacement(1).send(replica.client).status_code == 201
        for turn in range(1, 11):
            for number in range(changing_cell.USERS):
                assert replica.client.post("/locate", json=user(number)).status_code == 200
            assert activated(replica.client, f"v{turn % 2}").status_code == 200
            resident.append(replica.metric("process_resident_memory_bytes"))
    # Each network and its frames are tens of megabytes.
    assert min(resident[-4:]) < max(resident[:4]) + 2**25, [round(held / 2**20) for held in resident]


def write_for_trajectories(folder: Path, **changes: Any) -> None:
    write_tiny_trajectory_artifact(folder, LEARNED, ANTENNAS, SUBCARRIERS, BANDWIDTH, CARRIER)
    change_manifest(folder, **changes)


def test_an_artifact_for_trajectories_takes_over_where_it_fits(tmp_path: Path) -> None:
    settings = write_artifacts(tmp_path)
    fill(DirectoryStore(settings.database_directory))
    write_for_trajectories(tmp_path / "newer", version="2")
    write_for_trajectories(tmp_path / "forgetful", version="3", cells=["bare"])
    write_for_trajectories(tmp_path / "longer", version="4", vertices=4)
    with serving(settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        forgetful, longer = activated(client, "forgetful"), activated(client, "longer")
        before = client.post("/locate/trajectory", json=trajectory()).json()
        assert activated(client, "newer", force="true").status_code == 200  # no fingerprints lie near each other
        after = client.post("/locate/trajectory", json=trajectory()).json()
        models = client.get("/models").json()["models"]
        info = client.get("/metrics").text
    check_refused(forgetful, "cell both: the artifact for trajectories was not trained on this cell", tmp_path)
    check_refused(longer, "takes 4 snapshots, but clients send 3", tmp_path)
    assert [one["provenance"]["artifact"]["version"] for one in (before, after)] == ["1", "2"]
    np.testing.assert_allclose(local_points(after), local_points(before))
    assert {model["folder"] for model in models if model["state"] == "active"} == {"mateformer", "newer"}
    assert re.search(r'fingerpost_trajectory_artifact_info\{[^}]*version="2"', info)


@pytest.mark.anyio
async def test_an_artifact_that_measures_takes_over_where_it_serves_the_same_cells(tmp_path: Path) -> None:
    settings = write_measuring_artifacts(tmp_path)
    store, cell = DirectoryStore(settings.database_directory), measured_cell("surveyed")
    create_cells(store, measured_cell("bare"))
    places = np.stack([30 + np.arange(12), np.arange(12)], axis=1).astype(np.float32)
    csi = np.stack([heard_from(cell, *place) for place in places.tolist()])
    import_fingerprints(store, cell, Fingerprints(csi, places, np.zeros(12), np.full(12, 0.05, np.float32)), {}, ORIGIN)
    write_tiny_lwlm_artifact(tmp_path / "newer", version="2")
    write_tiny_lwlm_artifact(tmp_path / "worse", beside=5.0, version="3")
    larger = CONTRACT.model_copy(update={"antennas": (16,)})
    write_tiny_lwlm_artifact(tmp_path / "larger", larger, version="4")
    body = build_locate_body("bare", heard_from(measured_cell("bare"), 60, 20))

    async with running.running(settings) as client:
        before = (await client.post("/locate", json=body)).json()
        refused = {name: await client.post(f"/models/{name}:activate") for name in ("worse", "larger")}
        accepted = await client.post("/models/newer:activate")
        after = (await client.post("/locate", json=body)).json()
        info = (await client.get("/metrics")).text
    check_refused(refused["worse"], "the median error on the cell's own fingerprints rises from", tmp_path)
    check_refused(refused["larger"], "array.columns is 8, the artifact lwlm was trained with 16", tmp_path)
    assert accepted.status_code == 200, accepted.text
    (compared,) = accepted.json()["check"].pop("compared")  # the other has no fingerprints
    assert accepted.json()["check"] == {"cells": 2, "checked": 1, "failed": [], "compared": [compared]}
    assert compared["cellId"] == "surveyed"
    assert compared["medianBefore"] == compared["medianAfter"] < 1
    assert [one["provenance"]["artifact"]["version"] for one in (before, after)] == ["1", "2"]
    assert re.search(r'fingerpost_measure_artifact_info\{[^}]*version="2"', info)
    async with running.running(settings) as client:  # after a restart
        again = (await client.post("/locate", json=body)).json()
    assert again["provenance"] == after["provenance"]
    off = settings.model_copy(update={"lwlm_artifact_directory": None})
    async with running.running(off) as client:
        answer = await client.post("/models/worse:activate")
        listed = (await client.get("/models")).json()["models"]
    assert answer.json()["cause"] == "NO_MEASURING_ARTIFACT"
    assert {one["folder"]: one["state"] for one in listed if one["family"] == "lwlm"} == dict.fromkeys(
        ("lwlm", "newer", "worse", "larger"), "available"
    )


@pytest.mark.anyio
async def test_an_answer_from_before_an_activation_ended_is_not_adopted(tmp_path: Path) -> None:
    """The installation was asked while an activation was under way, and answered with the artifact before."""
    folders = SimpleNamespace(find=lambda active: tmp_path, path=lambda folder: tmp_path / "absent")
    engine = SimpleNamespace(engine=None)
    activation = Activation(folders, None, None, engine, None, None, Settings(), None, None, None)
    before = ActiveArtifact.after(None, "mateformer", "before", "0" * 64, 0.0)
    under_way = asyncio.create_task(activation.activate("after", force=True))
    while activation.folder is None:
        await asyncio.sleep(0)
    asked = activation.turns
    with pytest.raises(ServiceError):  # here it fails, as there is no such folder
        await under_way
    with pytest.raises(ActivationInProgress, match="since the installation was asked"):
        await activation.adopt(before, asked)
    activation.close()
