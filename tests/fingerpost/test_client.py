"""The clients with the real service, and with one that is busy, breaks connections or answers nonsense."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from uuid import uuid4

import httpx
import numpy as np
import pytest
from pydantic import ValidationError

from fingerpost import (
    AsyncClient,
    Client,
    ClientError,
    CoarsePosition,
    Fallback,
    GeographicPoint,
    Local2dPointUncertaintyEllipse,
    LocateResponse,
    NoAnswer,
    PointUncertaintyCircle,
    PointUncertaintyEllipse,
    Problem,
    Provenance,
    Refused,
    TrackProvenance,
    TrajectoryResponse,
    build_locate_body,
    build_locate_request,
)
from tests.fingerpost.scripted import Scripted, scripted
from tests.service.learned_cells import TRAJECTORY, path_features_at, seen_at
from tests.service.plane_cell import USER, users_at

CSI = users_at(USER)[0]
COARSE = CoarsePosition(x=50.6, y=4.5, h_accuracy=1.0)


def error_of(estimate: LocateResponse | Problem) -> float:
    assert isinstance(estimate, LocateResponse), estimate
    assert estimate.local_location_estimate is not None
    point = estimate.local_location_estimate.point
    return float(np.hypot(point.x - USER[0, 0], point.y - USER[0, 1]))


def test_locate_takes_csi_and_returns_a_typed_estimate(url: str) -> None:
    with Client(url) as client:
        estimate = client.locate("plane", CSI, COARSE, request_id="7", h_accuracy=1e6)
        by_signal = client.locate("plane", CSI.astype(np.complex128))
    assert error_of(estimate) < 5
    assert error_of(by_signal) < 5
    assert estimate.request_id == "7"
    assert estimate.accuracy_fulfilment_indicator == "REQUESTED_ACCURACY_FULFILLED"
    assert estimate.provenance.coarse_position_used
    assert not by_signal.provenance.coarse_position_used


def test_the_shape_of_the_estimate_is_the_best_that_the_caller_can_read(url: str) -> None:
    usual = (PointUncertaintyEllipse, Local2dPointUncertaintyEllipse)
    read = {
        None: usual,
        ("POINT", "POINT_UNCERTAINTY_CIRCLE"): (PointUncertaintyCircle, type(None)),
        ("POINT", "POLYGON"): (GeographicPoint, type(None)),
        ("LOCAL_2D_POINT_UNCERTAINTY_ELLIPSE",): (GeographicPoint, Local2dPointUncertaintyEllipse),
        ("LOCAL_2D_POINT_UNCERTAINTY_ELLIPSE", "POINT_UNCERTAINTY_ELLIPSE"): usual,
    }
    with Client(url) as client:
        for shapes, kinds in read.items():
            estimate = client.locate("plane", CSI, supported_gad_shapes=shapes and list(shapes), confidence=95)
            assert (type(estimate.location_estimate), type(estimate.local_location_estimate)) == kinds
            assert estimate.confidence == 95
        with pytest.raises(Refused, match="GAD_SHAPES_NOT_SUPPORTED"):
            client.locate("plane", CSI, supported_gad_shapes=["POLYGON"])
        with pytest.raises(Refused, match="LOCATION_TOO_OLD"):
            client.locate("plane", CSI, timestamp=datetime(2026, 1, 1, tzinfo=UTC), max_age=1.0)


def test_the_estimate_equals_the_json_answer(url: str) -> None:
    measured = datetime(2026, 1, 1, tzinfo=UTC)
    with Client(url) as client:
        estimate = client.locate("plane", CSI, COARSE, timestamp=measured)
    body = build_locate_body("plane", CSI, {"x": 50.6, "y": 4.5, "hAccuracy": 1.0}) | {
        "timestamp": "2026-01-01T00:00:00Z"
    }
    answer = httpx.post(f"{url}/locate", json=body, timeout=60).content
    assert LocateResponse.model_validate_json(answer) == estimate


@pytest.mark.anyio
async def test_the_async_client_locates_too(url: str) -> None:
    async with AsyncClient(url) as client:
        estimate = await client.locate("plane", CSI, COARSE)
        found, missing = await client.locate_batch(
            [build_locate_request("plane", CSI, COARSE), build_locate_request("nowhere", CSI)]
        )
        with pytest.raises(Refused, match="CELL_NOT_FOUND"):
            await client.locate("nowhere", CSI)
    assert error_of(estimate) == error_of(found) < 5
    assert isinstance(missing, Problem)


def trajectory_errors(answer: TrajectoryResponse) -> list[float]:
    """Metres, of the points, then of the centroid."""
    points = [one.local_location_estimate.point for one in (*answer.points, answer.centroid)]
    truth = [*TRAJECTORY, TRAJECTORY.mean(axis=0)]
    return [float(np.hypot(point.x - x, point.y - y)) for point, (x, y) in zip(points, truth, strict=True)]


def test_locate_trajectory_returns_a_typed_estimate_of_each_point(learned_url: str) -> None:
    csi, features = seen_at(TRAJECTORY), path_features_at(TRAJECTORY)
    with Client(learned_url) as client:
        measured = client.locate_trajectory("bare", csi, features, request_id="7", h_accuracy=1e6)
        estimated = client.locate_trajectory("bare", csi.astype(np.complex128))
        with pytest.raises(Refused, match="TRAJECTORY_LENGTH"):
            client.locate_trajectory("bare", csi[:2])
    assert max(trajectory_errors(measured)) < 1e-2
    assert max(trajectory_errors(estimated)) < 1
    assert (measured.provenance.path_features, estimated.provenance.path_features) == ("measured", "estimated")
    assert measured.request_id == "7"
    assert measured.centroid.accuracy_fulfilment_indicator == "REQUESTED_ACCURACY_FULFILLED"


@pytest.mark.anyio
async def test_the_async_client_locates_trajectories_and_tracks_too(learned_url: str) -> None:
    async with AsyncClient(learned_url) as client:
        answer = await client.locate_trajectory("bare", seen_at(TRAJECTORY), path_features_at(TRAJECTORY))
        places = [await client.locate("both", csi, track_id=uuid4().hex) for csi in seen_at(TRAJECTORY)]
    assert max(trajectory_errors(answer)) < 1e-2
    short = [Fallback(method="scadf-moe", cause="TRACK_TOO_SHORT")]
    assert [one.provenance.fallbacks for one in places] == [short] * len(TRAJECTORY)


def test_snapshots_with_a_track_id_are_located_together_once_there_are_enough(learned_url: str) -> None:
    track_id = uuid4().hex
    with Client(learned_url) as client:
        *early, last = (client.locate("both", csi, track_id=track_id) for csi in seen_at(TRAJECTORY))
    for one in early:
        assert isinstance(one.provenance, Provenance)
        assert one.provenance.fallbacks == [Fallback(method="scadf-moe", cause="TRACK_TOO_SHORT")]
    assert isinstance(last.provenance, TrackProvenance)
    assert last.provenance.snapshots == len(TRAJECTORY)


def test_a_batch_of_any_size_and_of_many_cells_keeps_its_order(url: str) -> None:
    cells = ["plane", "nowhere", "other"] * 100 + ["plane"] * 200
    with Client(url) as client:
        results = client.locate_batch([build_locate_request(cell_id, CSI, COARSE) for cell_id in cells])
        assert client.locate_batch([]) == []
    named = [
        "nowhere" if isinstance(one, Problem) else one.local_location_estimate.local_origin.coordinate_id
        for one in results
    ]
    assert named == cells


def test_an_error_of_the_service_is_raised_with_its_problem(url: str) -> None:
    with Client(url) as client, pytest.raises(Refused) as refused:
        client.locate("nowhere", CSI)
    assert (refused.value.problem.status, refused.value.problem.cause) == (404, "CELL_NOT_FOUND")


@pytest.fixture(scope="module")
def answer(url: str) -> bytes:
    with Client(url) as client:
        return client.locate("plane", CSI, COARSE).model_dump_json(by_alias=True).encode()


def test_the_client_tries_again_if_the_service_is_busy_or_breaks_the_connection(answer: bytes) -> None:
    with scripted(503, None, 429, answer) as url, Client(url, "fp_key") as client:
        assert error_of(client.locate("plane", CSI)) < 5
    (seen,) = {tuple(sorted(one.items())) for one in Scripted.seen}
    assert dict(seen)["authorization"] == "Bearer fp_key"
    assert dict(seen)["fingerpost-cell"] == "plane"


@pytest.mark.anyio
async def test_the_async_client_tries_again_too(answer: bytes) -> None:
    with scripted(429, None, 503, answer) as url:
        async with AsyncClient(url) as client:
            assert error_of(await client.locate("plane", CSI)) < 5


def test_the_client_gives_up_after_the_given_number_of_tries() -> None:
    with scripted(503, 503, 503) as url, Client(url, tries=3) as client, pytest.raises(Refused, match="503 BUSY"):
        client.locate("plane", CSI)
    with scripted(None, None) as url, Client(url, tries=2) as client, pytest.raises(NoAnswer, match=url):
        client.locate("plane", CSI)


def test_a_permanent_error_is_not_tried_again() -> None:
    with scripted(500) as url, Client(url) as client, pytest.raises(Refused):
        client.locate("plane", CSI)


@pytest.mark.parametrize("answer", [b"", b"<html>", b"\xff", b"[" * 100_000, b'{"results": []}'])
def test_an_answer_that_is_not_of_this_api_is_no_answer(answer: bytes) -> None:
    with scripted(answer) as url, Client(url) as client, pytest.raises(NoAnswer):
        client.locate("plane", CSI)


def test_fewer_results_than_users_are_no_answer() -> None:
    with (
        scripted(b'{"results": []}') as url,
        Client(url) as client,
        pytest.raises(NoAnswer, match="0 results for 1 users"),
    ):
        client.locate_batch([build_locate_request("plane", CSI)])


def test_unknown_fields_of_an_answer_are_ignored(answer: bytes) -> None:
    later = json.loads(answer)
    later["altitude"] = later["provenance"]["weather"] = "new"
    with scripted(json.dumps(later).encode()) as url, Client(url) as client:
        assert error_of(client.locate("plane", CSI)) < 5


def test_unknown_fields_of_an_answer_about_a_trajectory_are_ignored(learned_url: str) -> None:
    with Client(learned_url) as client:
        answer = client.locate_trajectory("bare", seen_at(TRAJECTORY))
    later = answer.model_dump(mode="json", by_alias=True)
    for part in (later, later["points"][0], later["points"][0]["pathFeatures"], later["centroid"], later["provenance"]):
        part["altitude"] = "new"
    with scripted(json.dumps(later).encode()) as url, Client(url) as client:
        assert max(trajectory_errors(client.locate_trajectory("bare", seen_at(TRAJECTORY)))) < 1


def test_an_answer_that_cannot_be_decompressed_is_no_answer() -> None:
    with scripted(b"{}", encoding="gzip") as url, Client(url) as client, pytest.raises(NoAnswer):
        client.locate("plane", CSI)


def test_a_key_may_end_in_a_new_line(answer: bytes) -> None:
    with scripted(answer) as url, Client(url, "fp_key\n") as client:
        client.locate("plane", CSI)
    assert Scripted.seen[0]["authorization"] == "Bearer fp_key"


@pytest.mark.parametrize("key", ["fp_sécret", "fp_\nsecret", "fp secret", ""])
def test_a_key_that_no_header_can_carry_is_not_shown(key: str) -> None:
    with pytest.raises(ClientError) as error:
        Client("http://127.0.0.1:9", key)
    assert "cret" not in str(error.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "nothing", "http://[", "ftp://127.0.0.1"])
def test_an_unreachable_service_is_no_answer(url: str) -> None:
    with pytest.raises(NoAnswer, match="no answer from"), Client(url, tries=1) as client:
        client.locate("plane", CSI)


def test_a_request_with_a_wrong_field_is_not_sent() -> None:
    with scripted() as url, Client(url) as client, pytest.raises(ValidationError, match="cell_id"):
        client.locate("no/cell", CSI)


def test_the_client_needs_httpx_pydantic_and_numpy_only() -> None:
    script = "import sys, fingerpost; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    # httpx itself imports rich where it is installed.
    others = "faiss fastapi models msgspec onnx onnxruntime pyproj redis reference_db safetensors service typer"
    assert not set(others.split()) & set(done.stdout.split())


_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"


@pytest.mark.parametrize("where", ["blocking", "asyncio"])
@pytest.mark.parametrize("sent", [_HEAD, b"", b"HTTP/1.1 200 OK\r\nX-Long: "], ids=["body", "status", "header"])
def test_an_answer_that_drips_is_no_answer_after_the_deadline(where: str, sent: bytes) -> None:
    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(2**16)
            connection.sendall(sent)
            with suppress(OSError):  # the client has gone
                for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000 if not sent else b"x" * 1000:
                    connection.sendall(bytes([byte]))
                    time.sleep(0.02)

    async def ask(url: str) -> None:
        async with AsyncClient(url, timeout_s=0.3) as client:
            await client.locate("plane", CSI)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        if where == "asyncio":
            with pytest.raises(NoAnswer, match="not complete after"):
                asyncio.run(ask(url))
        else:
            with Client(url, timeout_s=0.3) as client, pytest.raises(NoAnswer, match="not complete after"):
                client.locate("plane", CSI)
        thread.join()


@pytest.mark.parametrize("where", ["blocking", "asyncio"])
def test_a_head_that_drips_on_a_connection_in_use_ends_and_the_next_request_is_answered(where: str) -> None:
    body = b'{"status": "live"}'
    whole = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    def answer(server: socket.socket) -> None:
        with server.accept()[0] as first:
            first.recv(2**16)
            first.sendall(whole)
            first.recv(2**16)
            with suppress(OSError):  # the client has gone
                for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000:
                    first.sendall(bytes([byte]))
                    time.sleep(0.02)
        with server.accept()[0] as second:
            second.recv(2**16)
            second.sendall(whole)

    async def ask(url: str) -> None:
        async with AsyncClient(url, timeout_s=0.3, tries=1) as client:
            await client.check_live()
            with pytest.raises(
                NoAnswer, match=r"127\.0\.0\.1:\d+/health/live: the answer is not complete after 0\.3 s"
            ):
                await client.check_live()
            await client.check_live()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, args=(server,))
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        if where == "asyncio":
            asyncio.run(ask(url))
        else:
            with Client(url, timeout_s=0.3, tries=1) as client:
                client.check_live()
                with pytest.raises(NoAnswer, match="/health/live: the answer is not complete after"):
                    client.check_live()
                client.check_live()
        thread.join()


def test_a_closed_client_answers_nothing() -> None:
    client = Client("http://127.0.0.1:9")
    client.close()
    with pytest.raises(NoAnswer, match="the client is closed"):
        client.list_cells()
