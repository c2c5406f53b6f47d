"""Which networks a cell uses: what operators say, and what becomes of its users."""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from fingerpost import build_locate_body
from reference_db import DirectoryStore
from service.app import create_app
from service.commands.cli import app as command_line
from service.updates.cell_wire import describe_cell
from tests.service.learned_cells import TRAJECTORY, fill, learned_cell, seen_at, trajectory, write_artifacts
from tests.service.plane_cell import Json
from tests.service.serving import serving
from tests.service.tiny_artifact import only, write_tiny_artifact

GUARD_S = 60.0
PLAIN = build_locate_body("both", seen_at(TRAJECTORY[:1])[0])


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service of this module's own, whose cells may be changed."""
    settings = write_artifacts(tmp_path_factory.mktemp("policy"))
    fill(DirectoryStore(settings.database_directory))
    with serving(settings) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[httpx.Client]:
    """Its cell `both` is one of `auto` again."""
    with httpx.Client(base_url=address, timeout=GUARD_S) as client:
        yield client
        client.put("/cells/both/model", json={"policy": "auto"})


def set_policy(client: httpx.Client, policy: str, cell_id: str = "both", **params: str) -> httpx.Response:
    return client.put(f"/cells/{cell_id}/model", json={"policy": policy}, params=params)


def until(answered: Callable[[], httpx.Response], outcome: str) -> httpx.Response:
    """The answer once it is the one expected: a new version takes over a moment after it is published."""
    deadline = time.monotonic() + GUARD_S
    while True:
        response = answered()
        if response.json().get("cause", "LOCATED") == outcome:
            return response
        assert time.monotonic() < deadline, response.text
        time.sleep(0.05)


def test_a_policy_is_data_of_the_cell(client: httpx.Client) -> None:
    before = client.get("/cells/both").json()
    assert before["model"] == {"policy": "auto"}
    response = set_policy(client, "scadf-moe", author="ada", note="too few fingerprints")
    after = response.json()
    assert response.status_code == 200, response.text
    assert after["model"] == {"policy": "scadf-moe"}
    assert after["change"] == {
        "action": "model set",
        "added": 0,
        "removed": 0,
        "author": "ada",
        "note": "too few fingerprints",
    }
    assert client.get("/cells/both").json() == after
    newest, previous, *_ = client.get("/cells/both/versions").json()["versions"]
    assert (newest["model"], previous["model"]) == ({"policy": "scadf-moe"}, {"policy": "auto"})
    diff = client.get(f"/cells/both/versions/{before['version']}/diff/{after['version']}").json()
    assert diff["model"] == [{"field": "policy", "before": "auto", "after": "scadf-moe"}]
    assert (diff["description"], diff["retention"], diff["added"]["count"]) == ([], [], 0)


def test_users_feel_a_policy_as_soon_as_it_serves_and_it_can_be_taken_back(client: httpx.Client) -> None:
    assert client.post("/locate", json=PLAIN).status_code == 200
    assert client.post("/locate/trajectory", json=trajectory()).status_code == 200
    set_policy(client, "scadf-moe")
    until(lambda: client.post("/locate", json=PLAIN), "MODEL_NOT_ALLOWED_BY_CELL")
    until(lambda: client.post("/locate/trajectory", json=trajectory()), "LOCATED")
    set_policy(client, "mateformer")
    until(lambda: client.post("/locate/trajectory", json=trajectory()), "MODEL_NOT_ALLOWED_BY_CELL")
    until(lambda: client.post("/locate", json=PLAIN), "LOCATED")


def test_a_policy_set_again_changes_nothing(client: httpx.Client) -> None:
    version = client.get("/cells/both").json()["version"]
    assert set_policy(client, "auto").json()["cause"] == "UPDATE_REFUSED"
    assert client.get("/cells/both").json()["version"] == version


@pytest.mark.parametrize(
    ("cell_id", "policy", "status", "cause"),
    [
        ("unlearned", "scadf-moe", 409, "CELL_NOT_SERVED_BY_ARTIFACT"),
        ("other-band", "scadf-moe", 409, "BAND_NOT_SERVED_BY_ARTIFACT"),
        ("both", "oracle", 400, "MANDATORY_IE_INCORRECT"),
        ("nowhere", "auto", 404, "CELL_NOT_FOUND"),
    ],
)
def test_a_policy_that_no_artifact_can_serve_is_refused(
    client: httpx.Client, cell_id: str, policy: str, status: int, cause: str
) -> None:
    response = set_policy(client, policy, cell_id)
    assert (response.status_code, response.json()["cause"]) == (status, cause)


@pytest.mark.anyio
async def test_a_cell_that_only_the_network_for_trajectories_can_serve_is_accepted(tmp_path: Path) -> None:
    """And one that no network can serve is not."""
    settings = write_artifacts(tmp_path)
    write_tiny_artifact(settings.artifact_directory, radios=only(5))  # for other antennas
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        statuses = {}
        for cell_id in ("bare", "unlearned"):
            body = {"cell": describe_cell(learned_cell(cell_id)).model_dump(mode="json")}
            statuses[cell_id] = (await client.put(f"/cells/{cell_id}", json=body)).status_code
        assert statuses == {"bare": 201, "unlearned": 409}
        assert (await client.post("/locate/trajectory", json=trajectory("bare"))).status_code == 200


def test_the_command_line_sets_and_shows_it(
    client: httpx.Client, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")

    def fingerpost(*arguments: str) -> str:
        result = CliRunner().invoke(command_line, ["cells", *arguments, "--url", address], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    assert "mateformer" in fingerpost("model", "both", "mateformer", "--note", "for a while")
    assert client.get("/cells/both").json()["model"] == {"policy": "mateformer"}
    assert "model set" in fingerpost("versions", "both", "--limit", "1")
    number = int(client.get("/cells/both").json()["version"].partition("-")[0])
    assert "policy" in fingerpost("diff", "both", str(number - 1), str(number))


def test_every_example_of_the_description_is_answered(client: httpx.Client) -> None:
    document: Json = client.get("/openapi.json").json()
    examples = document["paths"]["/locate/trajectory"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert len(examples) == 2
    for example in examples.values():
        answer = client.post("/locate/trajectory", json=example["value"])
        assert answer.status_code == 200, answer.text
        assert math.isfinite(answer.json()["centroid"]["localLocationEstimate"]["point"]["x"])
