import re
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import openapi_spec_validator
import pytest

from models.artifact import TrajectoryManifest, load_artifact
from service.errors import FieldError, ServiceError
from service.settings import Settings
from tests.service.running import running
from tests.service.tiny_artifact import write_tiny_artifact
from tests.service.updates.wire import DESCRIPTION

SHIPPED = Path(__file__).parents[3] / "models" / "artifacts" / "scadf-moe"


@pytest.fixture
def document(client: httpx.Client) -> dict[str, Any]:
    document: dict[str, Any] = client.get("/openapi.json").json()
    return document


def test_document_is_valid_openapi(document: dict[str, Any]) -> None:
    openapi_spec_validator.validate(document)


def test_every_example_is_answered(client: httpx.Client, document: dict[str, Any]) -> None:
    posted = 0
    for path, operations in document["paths"].items():
        for example in (
            operations.get("post", {})
            .get("requestBody", {})
            .get("content", {})
            .get("application/json", {})
            .get("examples", {})
            .values()
        ):
            response = client.post(path, json=example["value"])
            assert response.status_code == 200, response.text
            assert "problem" not in response.text
            posted += 1
    assert posted == 6


def test_answers_are_as_described(client: httpx.Client, document: dict[str, Any]) -> None:
    def check(schema: str, value: Any) -> None:
        described = {"$ref": f"#/components/schemas/{schema}", "components": document["components"]}
        jsonschema.validate(value, described)

    examples = document["paths"]["/locate"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    for request in (examples["no coarse position"]["value"], examples["WGS84 coarse position"]["value"]):
        check("LocateRequest", request)
        check("LocateResponse", client.post("/locate", json=request).json())
    circle = examples["a circle of 90 %"]["value"]
    check("LocateRequest", circle)
    check("LocateResponse", client.post("/locate", json=circle).json())
    snapshots = document["paths"]["/locate/trajectory"]["post"]["requestBody"]["content"]["application/json"][
        "examples"
    ]
    together = snapshots["compared with fingerprints"]["value"]
    check("TrajectoryRequest", together)
    check("TrajectoryResponse", client.post("/locate/trajectory", json=together).json())
    check("BatchResponse", client.post("/locate/batch", json={"items": [request, 1]}).json())
    check("Problem", client.post("/locate", json={}).json())
    check("CellList", client.get("/cells").json())
    check("CellDetail", client.get("/cells/plane").json())
    check("CellDetail", client.get("/cells/plane/versions/1").json())
    check("VersionList", client.get("/cells/plane/versions").json())
    check("VersionDiff", client.get("/cells/plane/versions/1/diff/1").json())
    check("FingerprintList", client.get("/cells/plane/fingerprints?limit=3").json())
    check("ErrorMap", client.get("/cells/plane/errors?limit=3").json())
    client.get("/cells/plane/live")
    client.post("/locate", json=request)
    check("LiveEstimates", client.get("/cells/plane/live").json())
    check("ModelList", client.get("/models").json())
    check("ModelList", client.post("/models/mateformer:activate").json())
    check("KeyList", client.get("/keys").json())
    check("Latency", client.get("/latency").json())
    check("ModelList", client.get("/models").json())


def test_every_path_is_there_and_none_is_forgotten(client: httpx.Client, document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        if "get" in operations:
            there = path.format(cellId="plane", version="1", other="1")
            assert client.get(there).status_code == 200
    assert set(document["paths"]) == {
        "/locate",
        "/locate/batch",
        "/locate/trajectory",
        "/measure",
        "/cells",
        "/cells/{cellId}",
        "/cells/{cellId}/change",
        "/cells/{cellId}/errors",
        "/cells/{cellId}/export",
        "/cells/{cellId}/fingerprints",
        "/cells/{cellId}/fingerprints/delete",
        "/cells/{cellId}/fingerprints/forget",
        "/cells/{cellId}/model",
        "/cells/{cellId}/live",
        "/cells/{cellId}/retention",
        "/cells/{cellId}/rollback",
        "/cells/{cellId}/truths",
        "/cells/{cellId}/versions",
        "/cells/{cellId}/versions/{version}",
        "/cells/{cellId}/versions/{version}/diff/{other}",
        "/versions/collect",
        "/keys",
        "/models",
        "/models/{folder}:activate",
        "/health/live",
        "/health/ready",
        "/latency",
        "/metrics",
    }


def test_users_may_name_their_cell_to_a_load_balancer(document: dict[str, Any]) -> None:
    for path in ("/locate", "/locate/batch", "/locate/trajectory", "/measure"):
        (parameter,) = document["paths"][path]["post"]["parameters"]
        assert (parameter["name"], parameter["in"], parameter["required"]) == ("Fingerpost-Cell", "header", False)


def causes(document: dict[str, Any], path: str, method: str) -> set[str]:
    responses = document["paths"][path][method]["responses"]
    return set(re.findall(r"`([A-Z0-9_]+)`", " ".join(response["description"] for response in responses.values())))


def test_every_route_lists_its_own_causes(document: dict[str, Any]) -> None:
    assert "CSI_ALL_ZERO" in causes(document, "/locate", "post")
    assert "TRAJECTORY_LENGTH" in causes(document, "/locate/trajectory", "post")
    assert "TRAJECTORY_LENGTH" not in causes(document, "/locate", "post")
    assert "VERSION_REFUSED" in causes(document, "/cells/{cellId}", "put")
    assert "VERSION_REFUSED" not in causes(document, "/cells", "get")
    assert causes(document, "/health/ready", "get") == {"DRAINING", "NOT_READY"}


def test_every_cause_is_listed_by_some_route(document: dict[str, Any]) -> None:
    of_keys = {"KEY_MISSING", "KEY_UNKNOWN", "SCOPE_MISSING", "NF_CONGESTION_RISK"}
    of_any_route = of_keys | {"CLIENT_GONE", "HOST_INCORRECT", "HOST_NOT_ALLOWED", "CROSS_ORIGIN"}
    of_fallbacks = {"TRACK_TOO_SHORT", "TRACK_TOO_WIDE"}  # never of a problem: another method or none answers
    listed = {
        cause
        for path, operations in document["paths"].items()
        for method in operations
        for cause in causes(document, path, method)
    }
    kinds = [*ServiceError.__subclasses__(), *FieldError.__subclasses__()]
    assert {kind.cause for kind in kinds if kind is not FieldError} - listed <= of_any_route | of_fallbacks


@pytest.mark.anyio
async def test_the_examples_of_trajectories_lie_within_the_radius_and_work_as_a_track(tmp_path: Path) -> None:
    """With the artifact that the repository ships, whose network tells made-up places apart."""
    write_tiny_artifact(tmp_path)
    learned = load_artifact(SHIPPED, TrajectoryManifest).manifest
    csi = learned.csi
    cell = DESCRIPTION | {
        "array": {"rows": 1, "columns": csi.antennas, "spacing": 0.5},
        "subcarriers": csi.subcarriers,
        "bandwidth": csi.bandwidth,
        "carrierFrequency": learned.carrier_frequencies[0],
    }
    settings = Settings(artifact_directory=tmp_path, database_directory=tmp_path / "db", inference_threads=1)
    async with running(settings.model_copy(update={"trajectory_artifact_directory": SHIPPED})) as client:
        created = await client.put(f"/cells/{learned.cells[0]}", json={"cell": cell})
        assert created.status_code == 201, created.text
        operation = (await client.get("/openapi.json")).json()["paths"]["/locate/trajectory"]["post"]
        examples = operation["requestBody"]["content"]["application/json"]["examples"]
        assert len(examples) == 2
        for example in examples.values():
            answer = await client.post("/locate/trajectory", json=example["value"])
            assert answer.status_code == 200, answer.text
            assert answer.json()["provenance"]["withinRadius"] is True
        body = examples["path features estimated from the CSI"]["value"]
        track = {"cellId": body["cellId"], "trackId": "example"}
        for snapshot in body["snapshots"]:
            answer = await client.post("/locate", json=track | {"csi": snapshot["csi"]})
        assert answer.json()["provenance"]["source"] == "scadf-moe", answer.text
