"""Which method answers, why those before it did not, and what a caller may forbid. Real apps, tiny cells."""

import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from fingerpost import build_locate_body
from fingerpost.wire import LocateResponse, Problem
from reference_db import DirectoryStore, Fingerprints, import_fingerprints
from service.locating.coarse_rung import GAUSSIAN_SCALES
from service.settings import Settings
from tests.service.learned_cells import (
    ANTENNAS,
    BANDWIDTH,
    CARRIER,
    SUBCARRIERS,
    TRAJECTORY,
    learned_cell,
    seen_at,
    set_policy,
    snapshot,
)
from tests.service.measured_cells import create_cells, heard_from, measured_cell
from tests.service.plane_cell import Json, street
from tests.service.running import running, tiny_request, tiny_service
from tests.service.tiny_artifact import only, write_tiny_artifact
from tests.service.tiny_cell import ORIGIN
from tests.service.tiny_lwlm_artifact import write_tiny_lwlm_artifact
from tests.service.tiny_trajectory_artifact import write_tiny_trajectory_artifact

pytestmark = pytest.mark.anyio

USER = np.array([[52.0, 3.0]])
FIX = {"x": 53.0, "y": 2.5, "hAccuracy": 2.0}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A network of each family. `all`: learned and surveyed. `wide`: only weighted kNN can use its fingerprints.
    `bare`: no fingerprints. `nothing`: neither fingerprints nor a channel that a network knows. `one-place`: all
    fingerprints of one place.
    """
    folder = tmp_path_factory.mktemp("ladder")
    (folder / "mateformer").mkdir()
    radios = only(ANTENNAS, SUBCARRIERS)
    write_tiny_artifact(folder / "mateformer", radios=radios)
    write_tiny_trajectory_artifact(folder / "scadf-moe", ("all", "wide"), ANTENNAS, SUBCARRIERS, BANDWIDTH, CARRIER)
    write_tiny_lwlm_artifact(folder / "lwlm")
    store = DirectoryStore(folder / "database")
    for cell, places in (
        (learned_cell("all"), street(80, 1)),
        (learned_cell("tracks"), street(80, 1)),
        (learned_cell("measured"), street(80, 1)),
        (learned_cell("compared", 60e9), street(80, 1)),
        (learned_cell("wide", 60e9), street(80, 1)),
        (learned_cell("one-place", 60e9), np.repeat(street(1, 1), 40, axis=0)),
    ):
        n = len(places)
        survey = Fingerprints(seen_at(places), places, 1.7e9 + np.arange(n), np.full(n, 0.05, np.float32))
        import_fingerprints(store, cell, survey, {}, ORIGIN)
    set_policy(store, "tracks", "scadf-moe")
    set_policy(store, "measured", "lwlm")
    set_policy(store, "compared", "mateformer")
    create_cells(store, measured_cell("bare"), measured_cell("nothing", bandwidth=100e6))
    return Settings(
        port=0,
        database_directory=folder / "database",
        artifact_directory=folder / "mateformer",
        trajectory_artifact_directory=folder / "scadf-moe",
        lwlm_artifact_directory=folder / "lwlm",
        inference_threads=1,
        calibration_samples=40,
        calibration_sigmas_m=(1.0, 3.0),
        follow_period_s=0.2,
    )


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with running(settings) as client:
        yield client


def body(cell_id: str, **fields: Any) -> Json:
    csi = heard_from(measured_cell(cell_id), *USER[0]) if cell_id in ("bare", "nothing") else seen_at(USER)[0]
    return build_locate_body(cell_id, csi) | fields


async def ask(client: httpx.AsyncClient, asked: Json) -> Json:
    response = await client.post("/locate", json=asked)
    (LocateResponse if response.is_success else Problem).model_validate_json(response.content)
    answer: Json = response.json()
    return answer


def passed(answer: Json) -> list[tuple[str, str]]:
    """The methods that did not answer, and why, of an answer or a problem."""
    found = answer.get("provenance", answer).get("fallbacks", [])
    return [(one["method"], one["cause"]) for one in found]


def source(answer: Json) -> str:
    return str(answer["provenance"]["source"] if "provenance" in answer else answer["cause"])


UNLEARNED = "CELL_NOT_SERVED_BY_ARTIFACT"
BAND, SMALL = "BAND_NOT_SERVED_BY_ARTIFACT", "CELL_TOO_SMALL"
FAILURE = "POSITIONING_METHOD_FAILURE"


async def test_the_first_method_answers_and_names_no_other(client: httpx.AsyncClient) -> None:
    for position in TRAJECTORY:
        joint = await ask(client, snapshot("t", position, "all"))
    single = await ask(client, body("all"))
    measured = await ask(client, body("measured"))
    assert [source(one) for one in (joint, single, measured)] == ["scadf-moe", "mateformer", "lwlm"]
    assert [passed(one) for one in (joint, single, measured)] == [[], [], []]


@pytest.mark.parametrize(
    ("cell_id", "fields", "by", "fallbacks"),
    [
        ("all", {}, "mateformer", [("scadf-moe", "TRACK_TOO_SHORT")]),
        ("wide", {}, "weighted-knn", [("scadf-moe", BAND), ("mateformer", BAND)]),
        ("bare", {}, "lwlm", [("scadf-moe", UNLEARNED), ("mateformer", SMALL), ("weighted-knn", SMALL)]),
        (
            "nothing",
            {"coarsePosition": FIX},
            "coarse",
            [("scadf-moe", UNLEARNED), ("mateformer", SMALL), ("weighted-knn", SMALL), ("lwlm", BAND)],
        ),
        (
            "nothing",
            {},
            FAILURE,
            [("scadf-moe", UNLEARNED), ("mateformer", SMALL), ("weighted-knn", SMALL), ("lwlm", BAND)],
        ),
    ],
)
async def test_each_method_answers_where_those_before_it_cannot(
    client: httpx.AsyncClient, cell_id: str, fields: Json, by: str, fallbacks: list[tuple[str, str]]
) -> None:
    answer = await ask(client, body(cell_id, trackId="new", **fields))
    assert (source(answer), passed(answer)) == (by, fallbacks)


@pytest.mark.parametrize(
    ("cell_id", "fields", "by", "fallbacks"),
    [
        # What the policy excludes is not named, unless nothing else could have answered.
        ("tracks", {"trackId": "u"}, FAILURE, [("scadf-moe", UNLEARNED)]),
        ("tracks", {"trackId": "u", "coarsePosition": FIX}, "coarse", [("scadf-moe", UNLEARNED)]),
        ("tracks", {}, "MODEL_NOT_ALLOWED_BY_CELL", []),
        ("compared", {"trackId": "u"}, "weighted-knn", [("mateformer", BAND)]),
        ("measured", {"trackId": "u"}, "lwlm", []),
        # Fingerprints of one place cannot tell how far weighted kNN errs elsewhere.
        ("one-place", {}, FAILURE, [("mateformer", BAND), ("weighted-knn", SMALL), ("lwlm", BAND)]),
    ],
)
async def test_the_policy_of_the_cell_says_which_methods_there_are(
    client: httpx.AsyncClient, cell_id: str, fields: Json, by: str, fallbacks: list[tuple[str, str]]
) -> None:
    answer = await ask(client, body(cell_id, **fields))
    assert (source(answer), passed(answer)) == (by, fallbacks)


@pytest.mark.parametrize(
    ("cell_id", "fields", "by", "cause"),
    [
        ("all", {}, "mateformer", None),
        ("measured", {}, "lwlm", None),
        ("compared", {}, FAILURE, BAND),
        ("wide", {}, FAILURE, BAND),
        ("all", {"trackId": "v"}, FAILURE, "TRACK_TOO_SHORT"),
        ("measured", {"trackId": "v"}, "lwlm", None),
        ("bare", {}, FAILURE, SMALL),
        ("nothing", {"coarsePosition": FIX}, FAILURE, SMALL),
        ("tracks", {"coarsePosition": FIX}, "MODEL_NOT_ALLOWED_BY_CELL", None),
    ],
)
async def test_a_caller_may_forbid_all_but_the_first_method(
    client: httpx.AsyncClient, cell_id: str, fields: Json, by: str, cause: str | None
) -> None:
    answer = await ask(client, body(cell_id, allowFallback=False, **fields))
    assert source(answer) == by
    assert [cause for _, cause in passed(answer)] == ([] if cause is None else [cause])
    if cause is not None:
        assert (answer["status"], cause in answer["detail"]) == (422, True)
        assert "allows no fallback" in answer["detail"]


async def test_weighted_knn_finds_the_user_and_states_an_ellipse(client: httpx.AsyncClient) -> None:
    answer = await ask(client, body("wide"))
    point, ellipse = (answer["localLocationEstimate"][name] for name in ("point", "uncertaintyEllipse"))
    away = math.dist((point["x"], point["y"]), USER[0])
    assert away < ellipse["semiMajor"] < 40
    assert 0 < ellipse["semiMinor"] <= ellipse["semiMajor"] == answer["hAccuracy"]
    assert answer["localLocationEstimate"]["confidence"] == 95
    assert answer["provenance"]["coarsePositionUsed"] is False
    assert "artifact" not in answer["provenance"]


async def test_weighted_knn_uses_a_fix_and_says_what_it_was_calibrated_for(client: httpx.AsyncClient) -> None:
    near, far = [await ask(client, body("wide", coarsePosition=FIX | {"hAccuracy": one})) for one in (1.0, 30.0)]
    assert near["provenance"]["coarsePositionUsed"] is True
    assert near["provenance"]["calibratedHAccuracy"] == 1.0
    assert "calibratedHAccuracy" not in far["provenance"]
    outside = await ask(client, body("wide", coarsePosition={"x": 400.0, "y": 0.0, "hAccuracy": 1.0}))
    assert outside["provenance"]["coarsePositionIgnored"] == "COARSE_POSITION_OUTSIDE_CELL"
    beyond = await ask(client, body("wide", coarsePosition={"x": 9000.0, "y": 0.0, "hAccuracy": 1.0}))
    assert source(beyond) == "COARSE_POSITION_OUTSIDE_CELL"


async def test_the_coarse_answer_is_the_fix_with_its_own_error(client: httpx.AsyncClient) -> None:
    answer = await ask(client, body("nothing", coarsePosition=FIX, hAccuracy=10.0, requestId="7"))
    local = answer["localLocationEstimate"]
    assert (local["point"]["x"], local["point"]["y"]) == pytest.approx((53.0, 2.5))
    radius = 2.0 * math.sqrt(-2 * math.log(0.05))  # 95 % of normal errors with 2 m on each axis
    assert answer["hAccuracy"] == pytest.approx(radius)
    assert local["uncertaintyEllipse"] == {
        "semiMajor": pytest.approx(radius),
        "semiMinor": pytest.approx(radius),
        "orientationMajor": 0,
    }
    assert (answer["requestId"], answer["accuracyFulfilmentIndicator"]) == ("7", "REQUESTED_ACCURACY_FULFILLED")


@pytest.mark.parametrize("confidence", [50, 68, 95, 99])
def test_the_circles_of_a_fix_hold_the_stated_share_of_normal_errors(confidence: int) -> None:
    errors = np.linalg.norm(np.random.default_rng(0).standard_normal((20_000, 2)), axis=1)
    assert (errors <= GAUSSIAN_SCALES.at(confidence).factor).mean() == pytest.approx(confidence / 100, abs=0.01)


@pytest.mark.parametrize(
    ("coarse", "cause"),
    [
        ({"lat": 1.0, "y": 2.0, "hAccuracy": 1.0}, "COARSE_POSITION_INCORRECT"),
        ({"lat": 11.2560, "lon": 43.7731, "hAccuracy": 1.0}, "COARSE_POSITION_OUTSIDE_CELL"),
        ({"x": 0.0, "y": 2e6, "hAccuracy": 1e6}, "COARSE_POSITION_OUTSIDE_CELL"),
    ],
)
async def test_a_wrong_fix_is_no_answer(client: httpx.AsyncClient, coarse: Json, cause: str) -> None:
    assert source(await ask(client, body("nothing", coarsePosition=coarse))) == cause


async def test_a_fix_without_error_is_answered(client: httpx.AsyncClient) -> None:
    answer = await ask(client, body("nothing", coarsePosition=FIX | {"hAccuracy": 0.0}))
    assert 0 < answer["hAccuracy"] < 0.1


async def test_csi_that_does_not_fit_the_cell_is_refused_by_every_method(client: httpx.AsyncClient) -> None:
    for cell_id in ("wide", "bare", "nothing"):
        csi = build_locate_body(cell_id, np.ones((3, 7), complex))["csi"]
        assert source(await ask(client, body(cell_id, coarsePosition=FIX) | {"csi": csi})) == "CSI_SHAPE_MISMATCH"
    assert source(await ask(client, body("nowhere", coarsePosition=FIX))) == "CELL_NOT_FOUND"


async def test_csi_of_another_unit_is_compared_by_no_method(client: httpx.AsyncClient) -> None:
    loud = build_locate_body("wide", 1000 * seen_at(USER)[0])
    assert source(await ask(client, loud)) == "CSI_LEVEL_IMPLAUSIBLE"
    answer = await ask(client, loud | {"coarsePosition": FIX})
    assert source(answer) == "coarse"
    assert passed(answer)[-1] == ("weighted-knn", "CSI_LEVEL_IMPLAUSIBLE")
    assert source(await ask(client, loud | {"coarsePosition": FIX, "allowFallback": False})) == FAILURE


async def test_noise_alone_leaves_the_fix(client: httpx.AsyncClient) -> None:
    random = np.random.default_rng(0)
    noise = random.standard_normal((8, 16)) + 1j * random.standard_normal((8, 16))
    asked = build_locate_body("bare", noise)
    assert source(await ask(client, asked)) == "CSI_HAS_NO_SIGNAL"
    answer = await ask(client, asked | {"coarsePosition": FIX})
    assert (source(answer), passed(answer)[-1]) == ("coarse", ("lwlm", "CSI_HAS_NO_SIGNAL"))


async def test_a_batch_takes_each_user_down_as_far_as_needed(client: httpx.AsyncClient) -> None:
    items = [body("nothing"), body("all"), body("bare"), body("wide"), body("nothing", coarsePosition=FIX), body("all")]
    results = (await client.post("/locate/batch", json={"items": items * 8})).json()["results"]
    kinds = [source(one.get("location") or one["problem"]) for one in results]
    assert kinds == [FAILURE, "mateformer", "lwlm", "weighted-knn", "coarse", "mateformer"] * 8


async def test_a_model_that_has_no_answer_is_stood_in_for_by_its_own_fingerprints(tmp_path: Path) -> None:
    async with running(tiny_service(tmp_path)) as client:
        asked = tiny_request(-1)  # the tiny network answers NaN
        answer = await ask(client, asked)
        assert (source(answer), passed(answer)) == ("weighted-knn", [("mateformer", "ESTIMATE_NOT_FINITE")])
        refused = await ask(client, asked | {"allowFallback": False})
        assert (refused["status"], refused["cause"]) == (500, "ESTIMATE_NOT_FINITE")  # worth another try


async def test_a_new_version_takes_over_and_a_removed_cell_is_gone(client: httpx.AsyncClient) -> None:
    described = (await client.get("/cells/wide")).json()
    before = await ask(client, body("wide"))
    assert before["provenance"]["cellVersion"] == described["version"]
    corrected = await client.patch("/cells/wide", json={"azimuthDeg": 80.0}, params={"force": "true"})
    assert corrected.status_code == 200, corrected.text
    after = await ask(client, body("wide"))
    assert after["provenance"]["cellVersion"] == corrected.json()["version"] != described["version"]


async def test_requests_by_method_are_counted(client: httpx.AsyncClient) -> None:
    for cell_id in ("all", "wide", "bare", "nothing"):
        await ask(client, body(cell_id, coarsePosition=FIX))
    await ask(client, body("nothing"))
    lines = (await client.get("/metrics")).text.splitlines()
    for outcome, by, cause in (
        ("located", "mateformer", "none"),
        ("located", "weighted-knn", BAND),
        ("located", "lwlm", SMALL),
        ("located", "coarse", SMALL),
        (FAILURE, "none", SMALL),
    ):
        assert f'fingerpost_locations_total{{fallback="{cause}",outcome="{outcome}",source="{by}"}} 1.0' in lines
    assert "fingerpost_knn_cells 1.0" in lines
