"""The examples of the documentation run as they stand, against a real server with a cell of the demo."""

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from fingerpost import build_locate_body
from reference_db import read_fingerprint_file
from tests.docs.pages import ROOT, all_blocks, blocks, pages_to_run
from tests.docs.reader import follow

_PAGES = pages_to_run(training=False)


@pytest.mark.parametrize("page", _PAGES)
def test_the_examples_of_a_page_run_as_they_stand(page: str, demo_url: str, tmp_path: Path) -> None:
    printed = follow(_PAGES[page], demo_url, tmp_path)
    assert '"cause"' not in printed  # curl prints problems, and is content


def test_there_are_examples_of_the_client_and_of_curl() -> None:
    code = "".join(block.code for block in all_blocks() if block.is_run)
    for wanted in ("Client(", "AsyncClient(", "curl ", "fingerpost locate"):
        assert wanted in code


@pytest.fixture(scope="module")
def answer(demo_url: str) -> dict[str, Any]:
    user = json.loads((ROOT / "docs" / "examples" / "user.json").read_text())
    response = httpx.post(f"{demo_url}/locate", json=user | {"hAccuracy": 2.0}, timeout=60)
    assert response.status_code == 200, response.text
    located: dict[str, Any] = response.json()
    return located


def test_the_example_user_is_located_where_it_is(answer: dict[str, Any]) -> None:
    found = answer["localLocationEstimate"]["point"]
    assert (found["x"], found["y"]) == pytest.approx((82.34, 13.68), abs=0.5)


def test_the_documented_answer_has_the_fields_of_a_real_one(answer: dict[str, Any]) -> None:
    documented = next(one for one in map(json.loads, blocks("send/index.md", "json")) if "provenance" in one)
    assert list(documented) == list(answer)
    assert documented["provenance"].keys() == answer["provenance"].keys()
    assert documented["locationEstimate"].keys() == answer["locationEstimate"].keys()


def test_the_documented_request_has_only_fields_that_the_service_takes(demo_url: str) -> None:
    user = json.loads((ROOT / "docs" / "examples" / "user.json").read_text())
    documented = next(json.loads(one) for one in blocks("send/index.md", "json") if "cellId" in one)
    documented["csi"]["data"] = user["csi"]["data"]
    response = httpx.post(f"{demo_url}/locate", json=documented, timeout=60)
    assert response.status_code == 200, response.text


def test_the_documented_problem_has_the_fields_of_a_real_one(demo_url: str) -> None:
    documented = json.loads(blocks("send/errors.md", "json")[0])
    user = json.loads((ROOT / "docs" / "examples" / "user.json").read_text())
    numbers = np.full([*user["csi"]["shape"], 2], np.nan, "<f2")
    user["csi"]["data"] = base64.b64encode(numbers.tobytes()).decode()
    problem = httpx.post(f"{demo_url}/locate", json=user, timeout=60).json()
    assert problem.keys() == documented.keys()
    assert [problem["status"], problem["cause"]] == [documented["status"], documented["cause"]]
    assert [one["param"] for one in problem["invalidParams"]] == [one["param"] for one in documented["invalidParams"]]


def test_the_documented_measurement_has_the_fields_of_a_real_one(demo_url: str) -> None:
    asked, documented = map(json.loads, blocks("send/measure.md", "json"))
    snapshot = json.loads((ROOT / "docs" / "examples" / "snapshot.json").read_text())
    asked["csi"]["data"] = snapshot["csi"]["data"]
    response = httpx.post(f"{demo_url}/measure", json=asked, timeout=60)
    assert response.status_code == 200, response.text
    assert list(response.json()) == list(documented)
    assert response.json()["provenance"].keys() == documented["provenance"].keys()


def test_the_documented_answer_of_several_base_stations_has_the_fields_of_a_real_one(demo_url: str) -> None:
    asked, documented = map(json.loads, blocks("send/several-stations.md", "json"))
    for measurement in asked["measurements"]:
        file = ROOT / "benchmarks" / "data" / f"{measurement['cellId']}-stations.safetensors"
        measurement["csi"] = build_locate_body("any", read_fingerprint_file(file)[1].csi[0])["csi"]
    response = httpx.post(f"{demo_url}/locate", json=asked, timeout=60)
    assert response.status_code == 200, response.text
    provenance = response.json()["provenance"]
    assert provenance.keys() - {"disagreement"} == documented.keys()
    assert [list(one) for one in provenance["stations"]] == [list(one) for one in documented["stations"]]
