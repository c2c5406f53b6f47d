"""Every kind of bad input gets its own problem, and the service goes on."""

import base64
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from service.settings import Settings
from tests.service.plane_cell import USER, Json, users_at

MakeRequest = Callable[..., Json]


def assert_problem(response: httpx.Response, status: int, cause: str, *params: str) -> Json:
    problem: Json = response.json()
    assert (response.status_code, problem["cause"]) == (status, cause), problem
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert [invalid["param"] for invalid in problem.get("invalidParams", [])] == list(params)
    assert all(invalid["reason"] for invalid in problem.get("invalidParams", []))
    return problem


@pytest.fixture(autouse=True)
def _service_goes_on(client: httpx.Client, request_body: MakeRequest) -> Iterator[None]:
    yield
    assert client.post("/locate", json=request_body()).status_code == 200


def csi(array: np.ndarray | None = None, **fields: Any) -> Json:
    array = users_at(USER)[0] if array is None else array
    data = np.ascontiguousarray(array, "<c8").tobytes()
    sent = {"encoding": "complex64", "shape": list(array.shape), "data": base64.b64encode(data).decode()}
    return sent | fields


def half(peak: float) -> Json:
    """Complex32 without `scale` of a user whose largest part is `peak`; float16 clips at 65504."""
    pairs = users_at(USER)[0].view(np.float32).reshape(32, 32, 2)
    data = np.clip(pairs * (peak / np.abs(pairs).max()), -65504, 65504).astype("<f2").tobytes()
    return {"encoding": "complex32", "shape": [32, 32], "data": base64.b64encode(data).decode()}


def with_value(value: complex) -> np.ndarray:
    array = users_at(USER)[0].copy()
    array[3, 4] = value
    return array


GOOD = csi()["data"]

CSI_CASES = [
    ("wrong shape", csi(users_at(USER)[0][:16]), "CSI_SHAPE_MISMATCH", "/csi/shape"),
    ("transposed shape of another size", csi(shape=[64, 16]), "CSI_SHAPE_MISMATCH", "/csi/shape"),
    ("three dimensions", csi(shape=[32, 32, 1]), "MANDATORY_IE_INCORRECT", "/csi/shape"),
    ("dimension zero", csi(shape=[0, 32]), "MANDATORY_IE_INCORRECT", "/csi/shape/0"),
    ("huge dimensions", csi(shape=[65536, 65536]), "CSI_LENGTH_MISMATCH", "/csi/data"),
    ("unknown dtype", csi(encoding="float64"), "MANDATORY_IE_INCORRECT", "/csi/encoding"),
    ("another dtype than sent", csi(encoding="complex32"), "CSI_LENGTH_MISMATCH", "/csi/data"),
    ("base64 cut in a group", csi(data=GOOD[:-3]), "CSI_NOT_BASE64", "/csi/data"),
    ("base64 cut between groups", csi(data=GOOD[:-4]), "CSI_LENGTH_MISMATCH", "/csi/data"),
    ("not base64", csi(data="~" * 8), "CSI_NOT_BASE64", "/csi/data"),
    ("empty", csi(data=""), "CSI_LENGTH_MISMATCH", "/csi/data"),
    ("NaN", csi(with_value(np.nan)), "CSI_NOT_FINITE", "/csi/data"),
    ("infinity", csi(with_value(complex(0, np.inf))), "CSI_NOT_FINITE", "/csi/data"),
    ("all zero", csi(np.zeros((32, 32))), "CSI_ALL_ZERO", "/csi/data"),
    ("beyond float32 power", csi(with_value(1e30)), "CSI_OUT_OF_RANGE", "/csi/data"),
    ("below float32 power", csi(np.full((32, 32), 1e-30)), "CSI_OUT_OF_RANGE", "/csi/data"),
    ("scale zero", csi(scale=0.0), "MANDATORY_IE_INCORRECT", "/csi/scale"),
    ("scale out of range", csi(scale=1e300), "CSI_OUT_OF_RANGE", "/csi/data"),
    ("scale beyond float32", csi(np.full((32, 32), 1e-38), scale=1e60), "CSI_OUT_OF_RANGE", "/csi/data"),
    ("only subnormal complex32", half(0.9 * 2**-14), "CSI_OUT_OF_RANGE", "/csi/data"),
    ("clipped complex32", half(2 * 65504), "CSI_OUT_OF_RANGE", "/csi/data"),
    ("unknown field", csi(rate=1), "UNKNOWN_FIELD", "/csi/rate"),
    ("no data", {"encoding": "complex64", "shape": [32, 32]}, "MANDATORY_IE_MISSING", "/csi/data"),
    ("no object", [], "MANDATORY_IE_INCORRECT", "/csi"),
]


@pytest.mark.parametrize(("sent", "cause", "param"), [case[1:] for case in CSI_CASES], ids=[c[0] for c in CSI_CASES])
def test_bad_csi(client: httpx.Client, request_body: MakeRequest, sent: Json, cause: str, param: str) -> None:
    assert_problem(client.post("/locate", json=request_body(csi=sent)), 400, cause, param)


POSITION_CASES: list[tuple[str, Json, int, str, str]] = [
    ("outside", {"x": 5e3, "y": 0, "hAccuracy": 1}, 422, "COARSE_POSITION_OUTSIDE_CELL", "/coarsePosition"),
    ("elsewhere", {"lat": 48.1, "lon": 11.6, "hAccuracy": 1}, 422, "COARSE_POSITION_OUTSIDE_CELL", "/coarsePosition"),
    (
        "antipode",
        {"lat": -43.7731, "lon": -168.744, "hAccuracy": 1},
        422,
        "COARSE_POSITION_OUTSIDE_CELL",
        "/coarsePosition",
    ),
    ("far away", {"x": 1e300, "y": 0, "hAccuracy": 1}, 422, "COARSE_POSITION_OUTSIDE_CELL", "/coarsePosition"),
    ("lat out of range", {"lat": 91, "lon": 11, "hAccuracy": 1}, 400, "MANDATORY_IE_INCORRECT", "/coarsePosition/lat"),
    (
        "lon out of range",
        {"lat": 43, "lon": -181, "hAccuracy": 1},
        400,
        "MANDATORY_IE_INCORRECT",
        "/coarsePosition/lon",
    ),
    ("half a pair", {"lat": 43, "hAccuracy": 1}, 400, "COARSE_POSITION_INCORRECT", "/coarsePosition"),
    (
        "two pairs",
        {"lat": 43, "lon": 11, "x": 0, "y": 0, "hAccuracy": 1},
        400,
        "COARSE_POSITION_INCORRECT",
        "/coarsePosition",
    ),
    ("mixed pair", {"lat": 43, "y": 0, "hAccuracy": 1}, 400, "COARSE_POSITION_INCORRECT", "/coarsePosition"),
    ("no accuracy", {"x": 50, "y": 0}, 400, "MANDATORY_IE_MISSING", "/coarsePosition/hAccuracy"),
    (
        "negative accuracy",
        {"x": 50, "y": 0, "hAccuracy": -1},
        400,
        "MANDATORY_IE_INCORRECT",
        "/coarsePosition/hAccuracy",
    ),
    ("unknown field", {"x": 50, "y": 0, "z": 0, "hAccuracy": 1}, 400, "UNKNOWN_FIELD", "/coarsePosition/z"),
    ("text", {"x": "50", "y": 0, "hAccuracy": 1}, 400, "MANDATORY_IE_INCORRECT", "/coarsePosition/x"),
]


@pytest.mark.parametrize(
    ("position", "status", "cause", "param"), [c[1:] for c in POSITION_CASES], ids=[c[0] for c in POSITION_CASES]
)
def test_bad_coarse_position(
    client: httpx.Client, request_body: MakeRequest, position: Json, status: int, cause: str, param: str
) -> None:
    problem = assert_problem(client.post("/locate", json=request_body(coarsePosition=position)), status, cause, param)
    assert "50" not in problem["detail"]


@pytest.mark.parametrize("position", [{}, 7])
def test_a_coarse_position_is_left_out_or_null_not_empty(
    client: httpx.Client, request_body: MakeRequest, position: object
) -> None:
    response = client.post("/locate", json=request_body(coarsePosition=position))
    assert response.status_code == 400
    assert response.json()["invalidParams"][0]["param"].startswith("/coarsePosition")


@pytest.mark.parametrize(
    ("value", "cause"), [(0, "CSI_ALL_ZERO"), (np.nan, "CSI_NOT_FINITE"), (1e-30, "CSI_OUT_OF_RANGE")]
)
def test_bad_csi_without_a_coarse_position(client: httpx.Client, value: float, cause: str) -> None:
    body = {"cellId": "plane", "csi": csi(np.full((32, 32), value))}
    assert_problem(client.post("/locate", json=body), 400, cause, "/csi/data")


@pytest.mark.parametrize("field", ["lat", "x", "hAccuracy"])
def test_nan_in_a_msgpack_position(client: httpx.Client, request_body: MakeRequest, field: str) -> None:
    pair = {"lat": 43.0, "lon": 11.0} if field == "lat" else {"x": 50.0, "y": 0.0}
    raw = csi(data=base64.b64decode(GOOD))
    body = request_body(csi=raw, coarsePosition=pair | {"hAccuracy": 1.0, field: float("nan")})
    response = client.post(
        "/locate", content=msgspec.msgpack.encode(body), headers={"content-type": "application/msgpack"}
    )
    problem = response.json()
    assert response.status_code in (400, 422), problem
    assert problem["invalidParams"][0]["param"].startswith("/coarsePosition")


@pytest.mark.parametrize(
    ("cell_id", "status", "cause"),
    [
        ("nowhere", 404, "CELL_NOT_FOUND"),
        ("../plane", 400, "MANDATORY_IE_INCORRECT"),
        ("", 400, "MANDATORY_IE_INCORRECT"),
        (7, 400, "MANDATORY_IE_INCORRECT"),
    ],
)
def test_bad_cell(client: httpx.Client, request_body: MakeRequest, cell_id: object, status: int, cause: str) -> None:
    assert_problem(client.post("/locate", json=request_body(cellId=cell_id)), status, cause, "/cellId")


@pytest.mark.parametrize(("cell_id", "cause"), [("small", "CELL_TOO_SMALL"), ("narrow", "CELL_NOT_SERVED_BY_ARTIFACT")])
def test_cell_that_no_method_serves(client: httpx.Client, request_body: MakeRequest, cell_id: str, cause: str) -> None:
    body = request_body(cellId=cell_id, coarsePosition=None)
    if cell_id == "narrow":
        body["allowFallback"] = False
    problem = client.post("/locate", json=body).json()
    assert (problem["status"], problem["cause"]) == (422, "POSITIONING_METHOD_FAILURE")
    assert problem["fallbacks"][0] == {"method": "mateformer", "cause": cause}


@pytest.mark.parametrize("allowed", ["yes", 1, "false"])
def test_whether_fallbacks_are_allowed_is_a_boolean(
    client: httpx.Client, request_body: MakeRequest, allowed: object
) -> None:
    response = client.post("/locate", json=request_body(allowFallback=allowed))
    assert_problem(response, 400, "MANDATORY_IE_INCORRECT", "/allowFallback")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("timestamp", "2026-01-01T00:00:00"), ("timestamp", 7), ("hAccuracy", 0), ("requestId", 1)],
        *[("confidence", 49), ("confidence", 100), ("supportedGADShapes", []), ("maxAge", 0), ("maxAge", "1")],
    ],
)
def test_bad_optional_field(client: httpx.Client, request_body: MakeRequest, field: str, value: object) -> None:
    response = client.post("/locate", json=request_body(**{field: value}))
    assert_problem(response, 400, "MANDATORY_IE_INCORRECT", f"/{field}")


def test_unknown_field(client: httpx.Client, request_body: MakeRequest) -> None:
    assert_problem(client.post("/locate", json=request_body(supi="x")), 400, "UNKNOWN_FIELD", "/supi")


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"cellId": NaN}', b"[" * 100_000])
@pytest.mark.parametrize("path", ["/locate", "/locate/batch"])
@pytest.mark.parametrize("media_type", ["application/json", "application/msgpack"])
def test_body_that_is_no_message(client: httpx.Client, body: bytes, path: str, media_type: str) -> None:
    response = client.post(path, content=body, headers={"content-type": media_type})
    assert response.status_code == 400
    assert response.json()["cause"] in ("INVALID_MSG_FORMAT", "MANDATORY_IE_INCORRECT", "UNKNOWN_FIELD")
    assert response.headers["content-type"] == "application/problem+json"


def test_deeply_nested_batch_item(client: httpx.Client) -> None:
    response = client.post(
        "/locate/batch",
        content=b'{"items":[' + b"[" * 500_000 + b"]" * 500_000 + b"]}",
        headers={"Content-Type": "application/json"},
    )
    assert response.status_code in (200, 400)


@pytest.mark.parametrize("header", [{"content-type": "text/plain"}, {"content-encoding": "gzip"}])
def test_unsupported_media_type(client: httpx.Client, header: dict[str, str]) -> None:
    response = client.post("/locate", content=b"{}", headers={"content-type": "application/json"} | header)
    assert_problem(response, 415, "UNSUPPORTED_MEDIA_TYPE")


def test_unacceptable_answer(client: httpx.Client, request_body: MakeRequest) -> None:
    response = client.post("/locate", json=request_body(), headers={"accept": "text/html"})
    assert_problem(response, 406, "NOT_ACCEPTABLE")


def test_declared_body_over_the_limit(client: httpx.Client, settings: Settings) -> None:
    response = client.post(
        "/locate", content=b" " * (settings.body_limit_bytes + 1), headers={"content-type": "application/json"}
    )
    assert_problem(response, 413, "BODY_TOO_LARGE")


def test_chunked_body_over_the_limit_is_refused_before_it_ends(url: str, settings: Settings) -> None:
    host = httpx.URL(url)
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with socket.create_connection((host.host, host.port or 80), timeout=30) as connection:
        connection.sendall(
            b"POST /locate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(settings.body_limit_bytes // 0x10000):
            connection.sendall(chunk)
        connection.sendall(b"1\r\n \r\n")  # not more than the limit + 1: bytes that are not read reset the connection
        head = connection.recv(65536)  # the body has not ended, nor will it
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"application/problem+json" in head


def test_chunked_body_under_the_limit_is_read(client: httpx.Client, request_body: MakeRequest) -> None:
    encoded = msgspec.json.encode(request_body())
    pieces = (encoded[i : i + 1000] for i in range(0, len(encoded), 1000))
    response = client.post("/locate", content=pieces, headers={"content-type": "application/json"})
    assert response.status_code == 200


@pytest.mark.parametrize("content", [0, 5])
def test_client_that_hangs_up_in_its_body(url: str, content: int) -> None:
    host = httpx.URL(url)
    with socket.create_connection((host.host, host.port or 80), timeout=30) as connection:
        connection.sendall(
            b"POST /locate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
            + b" " * content
        )


@pytest.mark.parametrize(
    ("method", "path", "status", "cause"),
    [
        ("GET", "/nowhere", 404, "RESOURCE_URI_STRUCTURE_NOT_FOUND"),
        ("GET", "/locate", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/cells", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/docs/files/nothing.js", 404, "RESOURCE_URI_STRUCTURE_NOT_FOUND"),
    ],
)
def test_wrong_path_or_method(client: httpx.Client, method: str, path: str, status: int, cause: str) -> None:
    assert_problem(client.request(method, path), status, cause)


@pytest.mark.parametrize("peak", [2**-13, 65504])
def test_complex32_of_any_normal_level_is_read(client: httpx.Client, request_body: MakeRequest, peak: float) -> None:
    response = client.post("/locate", json=request_body(csi=half(peak)))
    assert response.json().get("cause") != "CSI_OUT_OF_RANGE"
