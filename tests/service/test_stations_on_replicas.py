"""A cell that begins without fingerprints, on two real replicas that share a reference database."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fingerpost import AsyncClient, Client, Provenance, Refused, build_locate_body
from fingerpost.wire_provenance import LwlmProvenance
from service.commands.cli import app as command_line
from service.updates.cell_wire import describe_cell
from tests.redis_servers import RedisServer, empty, wait_until
from tests.service.measured_cells import heard_from, measured_cell, write_measuring_artifacts
from tests.service.plane_cell import Json
from tests.service.replicas import NEVER_S, Replica, running
from tests.service.tiny_lwlm_artifact import SCALES

CELL = measured_cell("square", yaw_deg=30)


@pytest.fixture(scope="module", params=["directory", "redis_server"])
def replicas(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Replica, Replica]]:
    folder = tmp_path_factory.mktemp("replicas")
    settings = write_measuring_artifacts(folder)
    address, period_s = str(settings.database_directory), 0.1
    if request.param == "redis_server":
        server: RedisServer = request.getfixturevalue("redis_server")
        empty(server)
        address, period_s = server.url, NEVER_S  # it announces versions
    else:
        settings.database_directory.mkdir()
    measuring = {
        "lwlm_artifact_directory": settings.lwlm_artifact_directory,
        "trajectory_artifact_directory": "none",
    }
    artifact = settings.artifact_directory
    with (
        running(address, artifact, folder / "1.log", **measuring) as one,
        running(address, artifact, folder / "2.log", follow_period_s=period_s, **measuring) as other,
    ):
        yield one, other


def command(replica: Replica, *arguments: str) -> str:
    url = str(replica.client.base_url).rstrip("/")
    result = CliRunner().invoke(command_line, ["cells", *arguments, "--url", url], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def locate(replica: Replica) -> Json:
    body = build_locate_body("square", heard_from(CELL, 60, 20))
    answer: Json = replica.client.post("/locate", json=body).json()
    return answer


def source(replica: Replica) -> str:
    answer = locate(replica)
    named: str = answer["provenance"]["source"] if "provenance" in answer else answer["cause"]
    return named


def rows(n: int) -> list[Json]:
    places = [(50.0 + i, 20.0) for i in range(n)]
    return [
        {"csi": build_locate_body("square", heard_from(CELL, *at))["csi"], "x": at[0], "y": at[1], "sigma": 0.05}
        for at in places
    ]


def test_a_cell_is_served_from_its_description_until_its_fingerprints_suffice(
    replicas: tuple[Replica, Replica], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    one, other = replicas
    described = tmp_path / "cell.json"
    described.write_text(json.dumps(describe_cell(CELL).model_dump(mode="json")))
    assert "published" in command(one, "create", "square", "--cell-file", str(described))
    for replica in replicas:
        assert replica.client.get("/health/ready").status_code == 200
        with Client(str(replica.client.base_url)) as client:
            measured = client.measure("square", heard_from(CELL, 60, 20), request_id="7")
            located = client.locate("square", heard_from(CELL, 60, 20))
        assert measured.range == pytest.approx((60**2 + 20**2) ** 0.5, abs=0.02)
        assert measured.request_id == "7"
        assert isinstance(located.provenance, LwlmProvenance)
        assert [one.cause for one in located.provenance.fallbacks or []] == ["CELL_TOO_SMALL"] * 2
        assert located.local_location_estimate.point.x == pytest.approx(60, abs=0.02)
        assert "served" in command(replica, "list")

    turned = one.client.patch("/cells/square", json={"azimuthDeg": 330.0})  # users turn with the array
    assert turned.status_code == 200, turned.text
    wait_until(lambda: locate(other)["localLocationEstimate"]["point"]["x"] < 0, "the other replica has the old yaw")
    one.client.patch("/cells/square", json={"azimuthDeg": 60.0})

    appended = one.client.post("/cells/square/fingerprints", params={"force": True}, json={"fingerprints": rows(10)})
    assert appended.status_code == 200, appended.text
    (finding,) = [found for found in appended.json()["quality"]["findings"] if found["name"] == "too few"]
    assert "the base station alone locates users until then" in finding["advice"]
    assert source(other) == "lwlm"
    more = rows(40)[10:]
    assert one.client.post("/cells/square/fingerprints?force=true", json={"fingerprints": more}).status_code == 200
    for replica in replicas:
        wait_until(lambda replica=replica: source(replica) == "mateformer", "the fingerprints do not serve")
        with Client(str(replica.client.base_url)) as client:
            assert isinstance(client.locate("square", heard_from(CELL, 60, 20)).provenance, Provenance)

    command(one, "model", "square", "lwlm")
    for replica in replicas:
        wait_until(lambda replica=replica: source(replica) == "lwlm", "the policy does not serve")
    command(one, "model", "square", "mateformer")
    for replica in replicas:
        wait_until(lambda replica=replica: source(replica) == "mateformer", "the policy does not serve")
        with Client(str(replica.client.base_url)) as client, pytest.raises(Refused, match="MODEL_NOT_ALLOWED_BY_CELL"):
            client.measure("square", heard_from(CELL, 60, 20))

    assert one.client.delete("/cells/square?force=true").status_code == 200
    for replica in replicas:
        wait_until(lambda replica=replica: source(replica) == "CELL_NOT_FOUND", "the cell is still served")


def test_replicas_name_the_artifact_that_measures(replicas: tuple[Replica, Replica]) -> None:
    one, _ = replicas
    listed = one.client.get("/models").json()
    (model,) = [found for found in listed["models"] if found["family"] == "lwlm"]
    assert (model["state"], model["configured"], model["folder"]) == ("active", True, "lwlm")
    assert model["csi"]["antennas"] == [8, 16]
    assert model["scales"] == {
        source: {str(one): factor for one, factor in scales.factors.items()} for source, scales in SCALES
    }

    def reported() -> bool:
        replicas = one.client.get("/models").json()["replicas"]
        return [found["artifacts"].get("lwlm") for found in replicas] == [model["digest"]] * 2

    wait_until(reported, "a replica does not report the artifact")
    answer = one.client.post("/models/lwlm:activate")  # it serves already: only its files are checked
    assert answer.status_code == 200, answer.text
    assert answer.json()["activated"]["lwlm"] == model["digest"]


def test_a_server_says_what_is_wrong_with_an_artifact_of_another_family(tmp_path: Path) -> None:
    settings = write_measuring_artifacts(tmp_path)
    with (
        pytest.raises(AssertionError, match="is of the family mateformer, not lwlm"),
        running(
            settings.database_directory,
            settings.artifact_directory,
            tmp_path / "log",
            exit_status=1,
            lwlm_artifact_directory=settings.artifact_directory,
        ),
    ):
        pass


@pytest.mark.anyio
async def test_the_asynchronous_client_measures_too(replicas: tuple[Replica, Replica]) -> None:
    one, _ = replicas
    described = {"cell": describe_cell(measured_cell("other")).model_dump(mode="json")}
    assert one.client.put("/cells/other", json=described).status_code in (200, 201)
    async with AsyncClient(str(one.client.base_url)) as client:
        measured = await client.measure("other", heard_from(measured_cell("other"), 40, 0))
    assert (measured.range, measured.aoa_deg) == pytest.approx((40, 90), abs=0.02)
