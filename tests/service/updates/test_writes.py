"""What operators' changes make of a cell, over the API."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from fingerpost import CellDetail
from reference_db import DirectoryStore, Fingerprints, Origin, replace_cell
from service.settings import Settings
from tests.service.tiny_cell import tiny_cell
from tests.service.updates.wire import DESCRIPTION, assert_problem, npz, on_a_line, sent

FILE = {"Content-Type": "application/octet-stream"}
KEY = {"Idempotency-Key": "the first survey"}


async def version(service: httpx.AsyncClient) -> str:
    name: str = (await service.get("/cells/c")).json()["version"]
    return name


async def append(service: httpx.AsyncClient, fingerprints: Fingerprints, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await service.post("/cells/c/fingerprints", json={"fingerprints": sent(fingerprints)}, headers=named)


@pytest.mark.anyio
async def test_a_cell_is_created_and_is_as_it_was_described(empty: httpx.AsyncClient, line: Fingerprints) -> None:
    area = {"west": -1.0, "south": -1.0, "east": 100.0, "north": 1.0}
    body = {"cell": DESCRIPTION | {"area": area, "cellId": "c"}, "fingerprints": sent(line)}
    created = await empty.put("/cells/c", params={"author": "ann", "note": "first"}, json=body)
    cell = created.json()
    assert created.status_code == 201
    assert created.headers["etag"] == f'"{cell["version"]}"'
    assert {name: cell[name] for name in DESCRIPTION} == DESCRIPTION | {
        "array": DESCRIPTION["array"] | {"spacing": 0.5}
    }
    assert (cell["area"], cell["fingerprints"], cell["parent"]) == (area, 40, None)
    assert cell["change"] == {"action": "created", "added": 40, "removed": 0, "author": "ann", "note": "first"}
    shown = await empty.get("/cells/c")
    assert (shown.json(), shown.headers["etag"]) == (cell, created.headers["etag"])
    again = {name: cell[name] for name in [*DESCRIPTION, "cellId", "area"]}
    replaced = await empty.put("/cells/c", json={"cell": again, "fingerprints": sent(line)})
    assert replaced.status_code == 200
    assert {name: replaced.json()[name] for name in again} == again


@pytest.mark.anyio
@pytest.mark.parametrize(
    "stored",
    [
        lambda line: {"positions": np.array([line.positions[:, 0], line.positions[:, 1]]).T},
        lambda line: {"positions": line.positions.astype(">i2"), "times": np.asfortranarray(line.times)},
        lambda line: {"csi": np.asfortranarray(line.csi.astype(">c16"))},
        lambda line: {"csi": np.asfortranarray(line.csi.view(np.float32).reshape(*line.csi.shape, 2).astype(">f8"))},
    ],
)
async def test_a_file_of_any_memory_order_and_width_holds_the_same_fingerprints(
    service: httpx.AsyncClient, line: Fingerprints, stored: Callable[[Fingerprints], dict[str, np.ndarray]]
) -> None:
    before = (await service.get("/cells/c/fingerprints")).json()["fingerprints"]
    file = npz(line, **stored(line))
    again = await service.post("/cells/c/fingerprints", content=file, headers=FILE)
    assert_problem(again, 422, "FINGERPRINT_REFUSED", "/fingerprints/0")  # the cell has it already
    assert (await service.put("/cells/c", content=file, headers=FILE)).status_code == 200
    assert (await service.get("/cells/c/fingerprints")).json()["fingerprints"] == before


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "param"),
    [
        ('{"cell":CELL,"cell":CELL,"fingerprints":ROWS}', "/cell"),
        ('{"fingerprints":ROWS,"cell":CELL,"fingerprints":ROWS}', "/fingerprints"),
        ('{"fingerprints": null, "cell": CELL, "fingerprints" : ROWS}', "/fingerprints"),
        ('{"cell":{"height":3,REST,"fingerprints":ROWS}', "/cell/height"),
        ('{"cell":CELL,"fingerprints":[{"x":1,"x":2}]}', "/fingerprints/0/x"),
    ],
)
async def test_a_body_that_gives_a_field_twice_changes_nothing(
    empty: httpx.AsyncClient, line: Fingerprints, body: str, param: str
) -> None:
    described, rows = json.dumps(DESCRIPTION), json.dumps(sent(line))
    body = body.replace("CELL", described).replace("REST", described[1:]).replace("ROWS", rows)
    assert_problem(
        await empty.put("/cells/c", content=body, headers={"Content-Type": "application/json"}),
        400,
        "MANDATORY_IE_INCORRECT",
        param,
    )
    assert (await empty.get("/cells/c")).status_code == 404


@pytest.mark.anyio
async def test_a_msgpack_body_that_gives_a_field_twice_changes_nothing(
    empty: httpx.AsyncClient, line: Fingerprints
) -> None:
    described, rows = msgspec.msgpack.encode(DESCRIPTION), msgspec.msgpack.encode(sent(line, raw=True))
    packed = {"Content-Type": "application/msgpack"}
    for body, param in (
        (b"\x83\xa4cell" + described + b"\xa4cell" + described + b"\xacfingerprints" + rows, "/cell"),
        (b"\x83\xacfingerprints\xc0\xa4cell" + described + b"\xacfingerprints" + rows, "/fingerprints"),
    ):
        refused = await empty.put("/cells/c", content=body, headers=packed)
        assert_problem(refused, 400, "MANDATORY_IE_INCORRECT", param)
    good = b"\x82\xa4cell" + described + b"\xacfingerprints" + rows
    assert (await empty.put("/cells/c", content=good, headers=packed)).status_code == 201


@pytest.mark.anyio
async def test_a_cell_may_begin_without_fingerprints(empty: httpx.AsyncClient) -> None:
    created = await empty.put("/cells/c", json={"cell": DESCRIPTION})
    assert (created.status_code, created.json()["fingerprints"]) == (201, 0)
    assert_problem(await empty.put("/cells/c", json={"cell": DESCRIPTION}), 409, "UPDATE_REFUSED")
    assert (await append(empty, on_a_line(0, 3))).json()["fingerprints"] == 3
    assert (await append(empty, on_a_line(3, 40))).json()["fingerprints"] == 40


@pytest.mark.anyio
async def test_the_same_fingerprints_by_any_way_have_the_same_ids(empty: httpx.AsyncClient, line: Fingerprints) -> None:
    cell, plain, packed = tiny_cell(), {"Content-Type": "application/json"}, {"Content-Type": "application/msgpack"}
    as_fields = {"cell": DESCRIPTION, "fingerprints": sent(line)}
    as_raw = msgspec.msgpack.encode(as_fields | {"fingerprints": sent(line, raw=True)})
    ways = [("json", msgspec.json.encode(as_fields), plain), ("packed", as_raw, packed), ("file", npz(line), FILE)]
    listed = []
    for name, body, headers in ways:
        if name == "file":  # it describes no cell
            await empty.put("/cells/file", json={"cell": DESCRIPTION})
        response = await empty.put(f"/cells/{name}", content=body, headers=headers)
        assert response.is_success, response.text
        listed.append((await empty.get(f"/cells/{name}/fingerprints")).json()["fingerprints"])
    assert listed[0] == listed[1] == listed[2]
    described = npz(line, cell)
    assert (await empty.put("/cells/c", content=described, headers=FILE)).status_code == 201


@pytest.mark.anyio
async def test_a_file_without_a_description_keeps_the_cells_own(service: httpx.AsyncClient) -> None:
    before = (await service.get("/cells/c")).json()
    replaced = await service.put("/cells/c", content=npz(on_a_line(0, 50)), headers=FILE)
    after = replaced.json()
    assert replaced.status_code == 200
    assert (after["fingerprints"], after["change"]["action"]) == (50, "replaced")
    assert all(after[name] == before[name] for name in DESCRIPTION)
    nowhere = await service.put("/cells/nowhere", content=npz(on_a_line(0, 50)), headers=FILE)
    assert_problem(nowhere, 404, "CELL_NOT_FOUND", "/cellId")


@pytest.mark.anyio
async def test_a_file_may_be_appended_if_it_is_of_this_cell(service: httpx.AsyncClient) -> None:
    async def post(cell: Any) -> httpx.Response:
        body = npz(on_a_line(40, 45), cell)
        return await service.post("/cells/c/fingerprints", content=body, headers=FILE)

    assert_problem(await post(tiny_cell().model_copy(update={"cell_id": "d"})), 400, "FINGERPRINTS_UNREADABLE")
    moved = await post(tiny_cell().model_copy(update={"latitude_deg": 43.71}))
    assert "latitude_deg" in assert_problem(moved, 409, "UPDATE_REFUSED")["detail"]
    higher = await post(tiny_cell().model_copy(update={"height": 11.0}))
    assert (higher.json()["fingerprints"], higher.json()["height"]) == (45, 10.0)


@pytest.mark.anyio
async def test_a_change_meant_for_another_version_changes_nothing(service: httpx.AsyncClient) -> None:
    first = await version(service)
    second = await append(service, on_a_line(40, 45), If_Match=f'"{first}"')
    assert second.status_code == 200
    for condition in (first, f'"{first}"', "1", f"W/{second.headers['etag']}", ""):
        refused = await append(service, on_a_line(45, 50), If_Match=condition)
        assert_problem(refused, 412, "PRECONDITION_FAILED")
    assert await version(service) == second.json()["version"]
    assert (await append(service, on_a_line(45, 50), If_Match="*")).status_code == 200
    new = {"If-None-Match": "*"}
    there = await service.put("/cells/c", json={"cell": DESCRIPTION}, headers=new)
    assert_problem(there, 412, "PRECONDITION_FAILED")
    assert (await service.put("/cells/d", json={"cell": DESCRIPTION}, headers=new)).status_code == 201


@pytest.mark.anyio
async def test_a_request_sent_again_with_its_key_is_answered_and_not_done_again(service: httpx.AsyncClient) -> None:
    first = await append(service, on_a_line(40, 45), Idempotency_Key="a", If_Match=await version(service))
    await append(service, on_a_line(45, 50))
    again = await append(service, on_a_line(40, 45), Idempotency_Key="a", If_Match=first.json()["parent"][:1])
    assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")
    assert again.json() == first.json()
    assert "idempotency-replayed" not in first.headers
    other = await append(service, on_a_line(50, 55), Idempotency_Key="a")
    assert_problem(other, 422, "IDEMPOTENCY_KEY_REUSED")
    with_note = await service.post(
        "/cells/c/fingerprints?note=x", json={"fingerprints": sent(on_a_line(40, 45))}, headers={"Idempotency-Key": "a"}
    )
    assert_problem(with_note, 422, "IDEMPOTENCY_KEY_REUSED")
    created = [await service.put("/cells/d", json={"cell": DESCRIPTION}, headers=KEY) for _ in range(2)]
    assert [one.status_code for one in created] == [201, 201]


@pytest.mark.anyio
async def test_deletion_by_everything_at_once(service: httpx.AsyncClient) -> None:
    selection = {"area": {"west": 0, "south": -1, "east": 9, "north": 1}, "measuredBefore": "2023-11-14T22:13:24Z"}
    preview = await service.post("/cells/c/fingerprints/delete?dryRun=true", json=selection)
    assert preview.json() == {"version": await version(service), "selected": 4, "fingerprints": 40}
    deleted = await service.post("/cells/c/fingerprints/delete?author=bob", json=selection)
    assert deleted.json()["change"] == {"action": "deleted", "added": 0, "removed": 4, "author": "bob", "note": ""}
    listed = (await service.get("/cells/c/fingerprints")).json()["fingerprints"]
    assert [one["x"] for one in listed] == list(range(4, 40))
    assert_problem(await service.post("/cells/c/fingerprints/delete", json=selection), 409, "UPDATE_REFUSED")
    by_id = await service.post("/cells/c/fingerprints/delete", json={"ids": [listed[0]["id"], "0" * 16]})
    assert by_id.json()["fingerprints"] == 35


@pytest.mark.anyio
async def test_a_deletion_that_is_not_understood_deletes_nothing(service: httpx.AsyncClient) -> None:
    before = await version(service)
    for query, selection, cause, param in (
        ("", {}, "MANDATORY_IE_INCORRECT", ""),
        ("", {"unknownTime": False}, "MANDATORY_IE_INCORRECT", ""),
        ("", {"ids": []}, "MANDATORY_IE_INCORRECT", "/ids"),
        ("", {"ids": ["12"]}, "MANDATORY_IE_INCORRECT", "/ids/0"),
        ("", {"area": {"west": 1, "south": 0, "east": 0, "north": 1}}, "MANDATORY_IE_INCORRECT", "/area"),
        ("", {"circle": {"lat": 91, "lon": 0, "radius": 1}}, "MANDATORY_IE_INCORRECT", "/circle/lat"),
        ("", {"measuredBefore": "2024-01-01T00:00:00"}, "MANDATORY_IE_INCORRECT", "/measuredBefore"),
        ("", {"everything": True}, "UNKNOWN_FIELD", "/everything"),
        ("dryrun=true", {"unknownTime": True}, "UNKNOWN_FIELD", "query dryrun"),
        ("dryRun=perhaps", {"unknownTime": True}, "MANDATORY_IE_INCORRECT", "query dryRun"),
    ):
        response = await service.post(f"/cells/c/fingerprints/delete?{query}", json=selection)
        assert_problem(response, 400, cause, param)
    assert await version(service) == before


@pytest.mark.anyio
async def test_retention_takes_effect_at_once_and_on_what_comes_later(service: httpx.AsyncClient) -> None:
    limited = await service.put("/cells/c/retention", json={"maxFingerprints": 30})
    assert limited.json()["retention"] == {"maxAgeS": None, "maxFingerprints": 30, "minSpacingM": None}
    assert (limited.json()["fingerprints"], limited.json()["change"]["action"]) == (30, "retention set")
    later = (await append(service, on_a_line(40, 45))).json()
    assert (later["fingerprints"], later["change"]["removed"]) == (30, 5)
    for name, bad in {"maxFingerprints": 0, "maxAgeS": -1, "minSpacingM": 2000}.items():
        refused = await service.put("/cells/c/retention", json={name: bad})
        assert_problem(refused, 400, "MANDATORY_IE_INCORRECT", f"/{name}")
    assert (await service.put("/cells/c/retention", json={})).json()["retention"]["maxFingerprints"] is None


@pytest.mark.anyio
async def test_going_back_brings_an_older_version_once_more(service: httpx.AsyncClient) -> None:
    first = (await service.get("/cells/c")).json()
    await append(service, on_a_line(40, 45))
    await service.put("/cells/c/retention", json={"maxFingerprints": 20})
    back = (await service.post("/cells/c/rollback", json={"version": first["version"]})).json()
    assert back["version"].startswith("4-")
    assert (back["fingerprints"], back["retention"]) == (40, first["retention"])
    change = back["change"]  # 20 of the first 40 and the 5 appended are left
    assert (change["action"], change["added"], change["removed"]) == ("rolled back", 25, 5)
    for version_name, status, cause in (
        (back["version"], 409, "UPDATE_REFUSED"),
        (9, 404, "VERSION_NOT_FOUND"),
        ("1-000000000000", 404, "VERSION_NOT_FOUND"),
        ("../1", 404, "VERSION_NOT_FOUND"),
        ("9" * 400, 404, "VERSION_NOT_FOUND"),
    ):
        response = await service.post("/cells/c/rollback", json={"version": version_name})
        assert (response.status_code, response.json()["cause"]) == (status, cause)
    assert (await service.post("/cells/c/rollback", json={"version": 2})).json()["fingerprints"] == 45


@pytest.mark.anyio
async def test_only_force_publishes_what_the_artifact_cannot_serve(empty: httpx.AsyncClient) -> None:
    wide = {"cell": DESCRIPTION | {"array": {"rows": 1, "columns": 8}}}
    assert_problem(await empty.put("/cells/c", json=wide), 409, "CELL_NOT_SERVED_BY_ARTIFACT", "/cellId")
    assert (await empty.get("/cells/c")).status_code == 404
    assert (await empty.put("/cells/c?force=true", json=wide)).status_code == 201


@pytest.mark.anyio
async def test_a_cell_described_wrongly_is_not_created(empty: httpx.AsyncClient) -> None:
    for change, cause, param in (
        ({"azimuthDeg": 400.0}, "MANDATORY_IE_INCORRECT", "/cell/azimuthDeg"),
        ({"point": {"lat": 43.7}}, "MANDATORY_IE_MISSING", "/cell/point/lon"),
        ({"bandwidth": 9e9}, "MANDATORY_IE_INCORRECT", "/cell"),
        ({"area": {"west": 0, "south": 0, "east": 0, "north": 1}}, "MANDATORY_IE_INCORRECT", "/cell/area"),
        ({"cellId": "d"}, "MANDATORY_IE_INCORRECT", "/cell/cellId"),
        ({"height": -0.5}, "MANDATORY_IE_INCORRECT", "/cell/height"),
        ({"height": 1e6}, "MANDATORY_IE_INCORRECT", "/cell/height"),
        ({"version": "1"}, "UNKNOWN_FIELD", "/cell/version"),
    ):
        assert_problem(await empty.put("/cells/c", json={"cell": DESCRIPTION | change}), 400, cause, param)
    nowhere = {"west": float("nan"), "south": 0.0, "east": 1.0, "north": 1.0}
    body = msgspec.msgpack.encode({"cell": DESCRIPTION | {"area": nowhere}})
    packed = await empty.put("/cells/c", content=body, headers={"Content-Type": "application/msgpack"})
    assert_problem(packed, 400, "MANDATORY_IE_INCORRECT", "/cell/area/west")
    assert (await empty.get("/cells")).json() == {"cells": []}


@pytest.mark.anyio
async def test_angles_that_count_from_east_are_refused_with_the_azimuth_to_write(empty: httpx.AsyncClient) -> None:
    without = {name: value for name, value in DESCRIPTION.items() if name != "azimuthDeg"}
    for former, azimuth in (({"yawDeg": -127.5}, 217.5), ({"yaw": 0.486}, 62.154)):
        refused = await empty.put("/cells/c", json={"cell": without | former})
        assert_problem(refused, 400, "UNKNOWN_FIELD", f"/cell/{next(iter(former))}")
        assert f'write "azimuthDeg": {azimuth} (compass' in refused.json()["detail"]
    assert (await empty.put("/cells/c", json={"cell": DESCRIPTION})).status_code == 201
    refused = await empty.patch("/cells/c", json={"yawDeg": 90})
    assert_problem(refused, 400, "UNKNOWN_FIELD", "/yawDeg")
    assert 'write "azimuthDeg": 0 (compass' in refused.json()["detail"]


@pytest.mark.anyio
async def test_there_is_nothing_to_change_of_a_cell_that_is_not_there(empty: httpx.AsyncClient) -> None:
    for path in ("fingerprints", "fingerprints/delete", "rollback"):
        for cell_id in ("nowhere", ".a", "a b", "x" * 65):
            assert_problem(await empty.post(f"/cells/{cell_id}/{path}", json={}), 404, "CELL_NOT_FOUND", "/cellId")


@pytest.mark.anyio
async def test_bodies_of_other_types_and_sizes_are_refused(service: httpx.AsyncClient) -> None:
    for method, path in (("PUT", "c"), ("POST", "c/fingerprints"), ("POST", "c/fingerprints/delete")):
        html = await service.request(method, f"/cells/{path}", content=b"<p>", headers={"Content-Type": "text/html"})
        assert_problem(html, 415, "UNSUPPORTED_MEDIA_TYPE")
        zipped = await service.request(method, f"/cells/{path}", content=b"x", headers={"Content-Encoding": "gzip"})
        assert_problem(zipped, 415, "UNSUPPORTED_MEDIA_TYPE")
        assert_problem(
            await service.request(method, f"/cells/{path}", content=b"{", headers={"Content-Type": "application/json"}),
            400,
            "INVALID_MSG_FORMAT",
        )
        large = await service.request(
            method, f"/cells/{path}", content=bytes(2**20 + 1), headers={"Content-Type": "application/json"}
        )
        assert_problem(large, 413, "BODY_TOO_LARGE")
    wrong = await service.request("POST", "/cells/c")
    assert_problem(wrong, 405, "METHOD_NOT_ALLOWED")
    assert set(wrong.headers["allow"].split(", ")) == {"DELETE", "GET", "HEAD", "PATCH", "PUT"}


@pytest.mark.anyio
async def test_a_fingerprint_at_fault_is_named_by_its_row(service: httpx.AsyncClient) -> None:
    before = await version(service)
    good = on_a_line(40, 45)

    async def refused(status: int, cause: str, param: str, **changes: Any) -> None:
        rows = sent(good)
        rows[3] |= changes
        body = {"fingerprints": [{name: value for name, value in row.items() if value is not None} for row in rows]}
        response = await service.post("/cells/c/fingerprints", json=body)
        assert_problem(response, status, cause, f"/fingerprints/3{param}")

    csi = sent(good)[3]["csi"]
    await refused(400, "CSI_NOT_BASE64", "/csi/data", csi=csi | {"data": "?"})
    await refused(400, "CSI_LENGTH_MISMATCH", "/csi/data", csi=csi | {"data": "AAAA"})
    await refused(400, "CSI_SHAPE_MISMATCH", "/csi/shape", csi=csi | {"shape": [3, 4]})
    await refused(400, "MANDATORY_IE_INCORRECT", "", lat=43.7, lon=11.2)
    await refused(400, "MANDATORY_IE_INCORRECT", "", x=None)
    await refused(400, "MANDATORY_IE_INCORRECT", "/sigma", sigma=0)
    await refused(400, "MANDATORY_IE_INCORRECT", "/time", time="2024-01-01T00:00:00")
    await refused(400, "UNKNOWN_FIELD", "/height", height=1.0)
    await refused(422, "FINGERPRINT_REFUSED", "", x=2e5)
    await refused(422, "FINGERPRINT_REFUSED", "", **sent(good)[2])
    await refused(422, "FINGERPRINT_REFUSED", "", **sent(on_a_line(0, 40))[7])  # the cell holds it already
    good.csi[3, 0, 0] = np.nan
    response = await service.post("/cells/c/fingerprints", content=npz(good), headers=FILE)
    assert_problem(response, 422, "FINGERPRINT_REFUSED", "/fingerprints/3")
    empty = await service.post("/cells/c/fingerprints", json={"fingerprints": []})
    assert_problem(empty, 400, "MANDATORY_IE_INCORRECT", "/fingerprints")
    none = await service.post("/cells/c/fingerprints", content=npz(on_a_line(0, 0)), headers=FILE)
    assert_problem(none, 400, "FINGERPRINTS_UNREADABLE")
    assert await version(service) == before


@pytest.mark.anyio
async def test_places_may_be_sent_in_degrees(service: httpx.AsyncClient) -> None:
    rows = sent(on_a_line(40, 42))
    for row in rows:
        del row["x"], row["y"], row["time"], row["sigma"]
        row |= {"lat": 43.7, "lon": 11.2}
    assert (await service.post("/cells/c/fingerprints", json={"fingerprints": rows})).status_code == 200
    *_, last = (await service.get("/cells/c/fingerprints")).json()["fingerprints"]
    assert (last["x"], last["y"]) == pytest.approx((0, 0), abs=1e-3)
    assert last["sigma"] == pytest.approx(0.05)
    assert "time" not in last


@pytest.mark.anyio
async def test_a_height_below_the_ground_is_refused_with_its_meaning(
    empty: httpx.AsyncClient, line: Fingerprints
) -> None:
    below = {"cell": DESCRIPTION | {"height": -3.0}, "fingerprints": sent(line)}
    refused = assert_problem(await empty.put("/cells/c", json=below), 400, "MANDATORY_IE_INCORRECT", "/cell/height")
    assert "metres above the ground" in refused["invalidParams"][0]["reason"]
    packed = {"content": msgspec.msgpack.encode(below), "headers": {"Content-Type": "application/msgpack"}}
    assert_problem(await empty.put("/cells/c", **packed), 400, "MANDATORY_IE_INCORRECT", "/cell/height")
    file = npz(line, tiny_cell().model_copy(update={"height": -3.0}))
    refused = assert_problem(await empty.put("/cells/c", content=file, headers=FILE), 400, "FINGERPRINTS_UNREADABLE")
    assert "height: cannot be negative: metres above the ground" in refused["detail"]
    at_the_ground = await empty.put("/cells/c", json=below | {"cell": DESCRIPTION | {"height": 0.0}})
    assert (at_the_ground.status_code, at_the_ground.json()["height"]) == (201, 0)


@pytest.mark.anyio
async def test_a_cell_that_an_earlier_release_stored_below_the_ground_can_be_read_and_changed(
    empty: httpx.AsyncClient, tiny_settings: Settings, line: Fingerprints
) -> None:
    cell = tiny_cell().model_copy(update={"height": -3.0})
    stored = replace_cell(None, cell, line, Origin("ann", datetime.now(UTC)))
    DirectoryStore(tiny_settings.database_directory).publish(stored.manifest, stored.segments, None)
    shown = await empty.get("/cells/c")
    assert CellDetail.model_validate_json(shown.content).height == -3
    assert [one["cellId"] for one in (await empty.get("/cells")).json()["cells"]] == ["c"]
    exported = (await empty.get("/cells/c/export")).content
    assert_problem(await empty.put("/cells/c", content=exported, headers=FILE), 400, "FINGERPRINTS_UNREADABLE")
    more = await empty.post("/cells/c/fingerprints", content=npz(on_a_line(50, 60), cell), headers=FILE)
    assert (more.status_code, more.json()["height"]) == (200, -3)
    assert (await empty.patch("/cells/c", json={"azimuthDeg": 5.0})).json()["height"] == -3
    assert (await empty.patch("/cells/c", json={"height": 4.5})).json()["height"] == 4.5
    difference = (await empty.get("/cells/c/versions/1/diff/4")).json()["description"]
    assert {"field": "height", "before": -3, "after": 4.5} in difference
