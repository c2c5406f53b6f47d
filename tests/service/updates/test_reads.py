"""Versions, what lies between them, and what they hold."""

import io
from pathlib import Path

import httpx
import numpy as np
import pytest

from reference_db import read_fingerprint_file
from service.settings import Settings
from tests.service.updates.wire import DESCRIPTION, Json, assert_problem, npz, on_a_line, sent

FILE = {"Content-Type": "application/octet-stream"}


@pytest.fixture
async def grown(service: httpx.AsyncClient) -> httpx.AsyncClient:
    """The cell was created with 40, got 5, lost the first 10, got a retention and another height."""
    area = {"west": 0, "south": -1, "east": 9, "north": 1}
    for method, path, body in (
        ("POST", "/fingerprints?author=ann", {"fingerprints": sent(on_a_line(40, 45))}),
        ("POST", "/fingerprints/delete?note=torn+down", {"area": area}),
        ("PUT", "/retention", {"maxAgeS": 1e12}),
        ("PUT", "", {"cell": DESCRIPTION | {"height": 11.0}, "fingerprints": sent(on_a_line(10, 45))}),
    ):
        response = await service.request(method, f"/cells/c{path}", json=body)
        assert response.is_success, response.text
    return service


async def get(service: httpx.AsyncClient, path: str) -> Json:
    response = await service.get(path)
    assert response.status_code == 200, response.text
    answer: Json = response.json()
    return answer


@pytest.mark.anyio
async def test_versions_say_who_when_and_what(grown: httpx.AsyncClient) -> None:
    listed = await get(grown, "/cells/c/versions")
    assert "next" not in listed
    versions = listed["versions"]
    facts = [(one["number"], one["action"], one["added"], one["removed"], one["fingerprints"]) for one in versions]
    assert facts == [
        (5, "replaced", 35, 35, 35),
        (4, "retention set", 0, 0, 35),
        (3, "deleted", 0, 10, 35),
        (2, "appended", 5, 0, 45),
        (1, "created", 40, 0, 40),
    ]
    assert (versions[3]["author"], versions[2]["note"]) == ("ann", "torn down")
    assert [one["parent"] for one in versions] == [one["digest"] for one in versions[1:]] + [None]
    assert [one["createdAt"] for one in versions] == sorted((one["createdAt"] for one in versions), reverse=True)


@pytest.mark.anyio
async def test_versions_come_page_by_page(grown: httpx.AsyncClient) -> None:
    pages, before = [], ""
    while True:
        page = await get(grown, f"/cells/c/versions?limit=2{before}")
        pages.append([one["number"] for one in page["versions"]])
        if "next" not in page:
            break
        before = f"&before={page['next']}"
    assert pages == [[5, 4], [3, 2], [1]]
    for query in ("limit=0", "limit=x", "limit=1001", "before=-1", "limit=٣"):
        name = query.partition("=")[0]
        problem = await grown.get(f"/cells/c/versions?{query}")
        assert_problem(problem, 400, "MANDATORY_IE_INCORRECT", f"query {name}")
    assert_problem(await grown.get("/cells/nowhere/versions"), 404, "CELL_NOT_FOUND", "/cellId")


@pytest.mark.anyio
async def test_a_damaged_version_hides_no_other(grown: httpx.AsyncClient, tiny_settings: Settings) -> None:
    for path in tiny_settings.database_directory.rglob("manifest.json"):
        if path.parent.name.endswith("3"):
            path.write_bytes(b"{}")
    listed = await get(grown, "/cells/c/versions")
    assert [one["number"] for one in listed["versions"]] == [5, 4, 2, 1]
    assert listed["unreadable"] == [3]
    assert_problem(await grown.get("/cells/c/versions/3"), 500, "CELL_UNREADABLE")


@pytest.mark.anyio
async def test_a_damaged_cell_hides_no_other(grown: httpx.AsyncClient, tiny_settings: Settings) -> None:
    await grown.put("/cells/d", json={"cell": DESCRIPTION})
    for path in tiny_settings.database_directory.glob("cells/d/**/manifest.json"):
        path.write_bytes(b"{}")
    listed = await get(grown, "/cells")
    assert ([one["cellId"] for one in listed["cells"]], listed["unreadable"]) == (["c"], ["d"])


@pytest.mark.anyio
async def test_a_version_is_found_by_name_number_or_the_beginning_of_its_name(grown: httpx.AsyncClient) -> None:
    name = (await get(grown, "/cells/c/versions"))["versions"][3]["version"]
    for given in (name, name[:6], "2"):
        response = await grown.get(f"/cells/c/versions/{given}")
        assert (response.json()["version"], response.headers["etag"]) == (name, f'"{name}"')
    other = "2-1" if name.startswith("2-0") else "2-0"
    for given in ("7", "0", other, "two", "2-", "-2", "9" * 30):
        assert_problem(await grown.get(f"/cells/c/versions/{given}"), 404, "VERSION_NOT_FOUND", "/version")
    assert_problem(await grown.get("/cells/nowhere/versions/1"), 404, "CELL_NOT_FOUND", "/cellId")


@pytest.mark.anyio
async def test_what_lies_between_two_versions(grown: httpx.AsyncClient) -> None:
    diff = await get(grown, "/cells/c/versions/1/diff/5")
    assert (diff["before"]["fingerprints"], diff["after"]["fingerprints"]) == (40, 35)
    assert (diff["before"]["extent"], diff["after"]["extent"]) == ([0, 0, 39, 0], [10, 0, 44, 0])
    assert (diff["added"]["count"], diff["removed"]["count"]) == (35, 40)  # measured anew
    assert diff["description"] == [{"field": "height", "before": 10, "after": 11}]
    assert diff["retention"] == [{"field": "maxAgeS", "before": None, "after": 1e12}]
    there, back = await get(grown, "/cells/c/versions/1/diff/3"), await get(grown, "/cells/c/versions/3/diff/1")
    assert (there["added"]["count"], there["removed"]["count"]) == (5, 10)
    assert there["added"] == back["removed"]
    assert there["added"]["complete"]
    same = await get(grown, "/cells/c/versions/3/diff/4")
    assert (same["added"]["count"], same["removed"]["count"], same["description"]) == (0, 0, [])


@pytest.mark.anyio
async def test_fingerprints_come_page_by_page(grown: httpx.AsyncClient) -> None:
    whole = await get(grown, "/cells/c/fingerprints?version=2")
    assert (whole["count"], [one["x"] for one in whole["fingerprints"]]) == (45, list(range(45)))
    assert whole["fingerprints"][1]["time"] == "2023-11-14T22:13:21Z"
    ids, after = [], ""
    while True:
        page = await get(grown, f"/cells/c/fingerprints?version=2&limit=20{after}")
        ids += [one["id"] for one in page["fingerprints"]]
        if "next" not in page:
            break
        after = f"&after={page['next']}"
    assert ids == [one["id"] for one in whole["fingerprints"]]
    assert (await get(grown, "/cells/c/fingerprints"))["count"] == 35
    for after in (ids[0], "x", "f" * 17):  # the first one is in that version no more
        problem = await grown.get(f"/cells/c/fingerprints?version=4&after={after}")
        assert_problem(problem, 400, "MANDATORY_IE_INCORRECT", "query after")


@pytest.mark.anyio
@pytest.mark.parametrize("file_format", ["safetensors", "npz"])
async def test_an_export_imported_again_is_the_same(grown: httpx.AsyncClient, tmp_path: Path, file_format: str) -> None:
    exported = await grown.get(f"/cells/c/export?format={file_format}&version=3")
    name = (await get(grown, "/cells/c/versions/3"))["version"]
    assert exported.headers["content-disposition"] == f'attachment; filename="c-{name}.{file_format}"'
    assert exported.headers["etag"] == f'"{name}"'
    assert int(exported.headers["content-length"]) == len(exported.content)
    path = tmp_path / f"c.{file_format}"
    path.write_bytes(exported.content)
    cell, fingerprints = read_fingerprint_file(path)
    assert (cell.cell_id, cell.height, len(fingerprints)) == ("c", 10.0, 35)
    again = await grown.put("/cells/c", content=exported.content, headers=FILE)
    assert again.status_code == 200
    diff = await get(grown, f"/cells/c/versions/3/diff/{again.json()['version']}")
    assert (diff["added"]["count"], diff["removed"]["count"], diff["description"]) == (0, 0, [])


@pytest.mark.anyio
async def test_there_is_no_export_of_nothing(empty: httpx.AsyncClient) -> None:
    await empty.put("/cells/c", json={"cell": DESCRIPTION})
    assert_problem(await empty.get("/cells/c/export"), 409, "CELL_TOO_SMALL", "/cellId")
    assert_problem(await empty.get("/cells/c/export?format=csv"), 400, "MANDATORY_IE_INCORRECT", "query format")
    assert_problem(await empty.get("/cells/nowhere/export"), 404, "CELL_NOT_FOUND", "/cellId")
    assert (await get(empty, "/cells/c/fingerprints"))["fingerprints"] == []


@pytest.mark.anyio
async def test_a_small_file_that_would_unpack_to_more_than_the_limit_is_refused(service: httpx.AsyncClient) -> None:
    bomb = npz(on_a_line(0, 1), times=np.zeros(200_000))
    assert len(bomb) < 10_000
    for method, path in (("PUT", "/cells/c"), ("POST", "/cells/c/fingerprints")):
        response = await service.request(method, path, content=bomb, headers=FILE)
        assert "1048576" in assert_problem(response, 400, "FINGERPRINTS_UNREADABLE")["detail"]


@pytest.mark.anyio
async def test_bytes_that_are_no_file_are_refused(service: httpx.AsyncClient) -> None:
    good = npz(on_a_line(0, 5))
    pickled = io.BytesIO()
    np.savez(pickled, csi=np.array([object()]))
    for body in (b"", b"x", b"PK\x03\x04", good[:-30], bytes(1000), b"\xff" * 8, pickled.getvalue()):
        response = await service.put("/cells/c", content=body, headers=FILE)
        assert_problem(response, 400, "FINGERPRINTS_UNREADABLE")
