"""Large bodies: the shape is compared first, and the event loop does not decode them."""

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from reference_db import DirectoryStore
from service.locating import trajectory_reader, user_reader
from service.web.media import LARGE_BYTES
from tests.service.learned_cells import TRAJECTORY, fill, snapshot, trajectory, write_artifacts
from tests.service.plane_cell import Json
from tests.service.running import running

SIDE = 512  # antennas and subcarriers of CSI that no cell has: 2 MiB
FOREIGN = {"encoding": "complex64", "shape": [SIDE, SIDE], "data": "A" * (8 * SIDE * SIDE // 3 * 4)}
HERE = threading.current_thread().name

Locate = Callable[[str, Any], Any]


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the threads that validate bodies and decode CSI, in order."""
    names: list[str] = []

    def note(function: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*args: Any) -> Any:
            names.append(threading.current_thread().name)
            return function(*args)

        return noting

    for module in (user_reader, trajectory_reader):
        for name in ("validated", "decode_csi"):
            monkeypatch.setattr(module, name, note(getattr(module, name)))
    return names


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    settings = write_artifacts(tmp_path)
    fill(DirectoryStore(settings.database_directory))
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(running(settings))


def padded(body: Json) -> bytes:
    return msgspec.json.encode(body) + b" " * LARGE_BYTES


async def post(client: httpx.AsyncClient, path: str, body: bytes) -> Json:
    answer: Json = (await client.post(path, content=body, headers={"Content-Type": "application/json"})).json()
    return answer


@pytest.mark.anyio
@pytest.mark.parametrize("cell_id", ["both", "only-tracks", "bare", "unlearned"])
async def test_csi_of_another_shape_is_not_decoded(client: httpx.AsyncClient, threads: list[str], cell_id: str) -> None:
    body = {"cellId": cell_id, "csi": FOREIGN, "trackId": "a"}
    problem = await post(client, "/locate", msgspec.json.encode(body))
    assert (problem["cause"], problem["invalidParams"][0]["param"]) == ("CSI_SHAPE_MISMATCH", "/csi/shape")
    assert threads == []


@pytest.mark.anyio
async def test_an_item_of_another_shape_is_not_decoded_and_spoils_no_other(
    client: httpx.AsyncClient, threads: list[str]
) -> None:
    good = snapshot("a", TRAJECTORY[0])
    items = [good, good | {"csi": FOREIGN}, good | {"cellId": "nowhere"}, good | {"cellId": "../x"}, 7]
    answer = await post(client, "/locate/batch", msgspec.json.encode({"items": items}))
    first, *others = answer["results"]
    assert "location" in first
    assert [one["problem"]["cause"] for one in others] == [
        "CSI_SHAPE_MISMATCH",
        "CELL_NOT_FOUND",
        "MANDATORY_IE_INCORRECT",
        "MANDATORY_IE_INCORRECT",
    ]
    assert len(threads) == 4  # validated and decoded; the name and the number validated
    assert HERE not in threads


@pytest.mark.anyio
async def test_a_trajectory_of_another_shape_is_not_decoded(client: httpx.AsyncClient, threads: list[str]) -> None:
    body = trajectory()
    body["snapshots"][2]["csi"] = FOREIGN
    problem = await post(client, "/locate/trajectory", msgspec.json.encode(body))
    assert problem["cause"] == "CSI_SHAPE_MISMATCH"
    assert problem["invalidParams"][0]["param"] == "/snapshots/2/csi/shape"
    assert threads == []


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/locate", "/locate/batch", "/locate/trajectory"])
async def test_only_small_bodies_are_decoded_by_the_event_loop(
    client: httpx.AsyncClient, threads: list[str], path: str
) -> None:
    user = snapshot("a", TRAJECTORY[0])
    body = {"/locate": user, "/locate/batch": {"items": [user]}, "/locate/trajectory": trajectory()}[path]
    small = await post(client, path, msgspec.json.encode(body))
    assert "cause" not in small, small
    assert set(threads) == {HERE}
    threads.clear()
    large = await post(client, path, padded(body))
    assert large.keys() == small.keys()
    assert threads
    assert HERE not in threads


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/locate", "/locate/batch", "/locate/trajectory"])
@pytest.mark.parametrize("body", [b"{", b"[]", b"7", b'{"cellId": 7, "items": 1, "snapshots": [1]}'])
async def test_a_large_body_that_is_no_message_is_refused_as_a_small_one(
    client: httpx.AsyncClient, path: str, body: bytes
) -> None:
    small, large = [await post(client, path, body + padding) for padding in (b"", b" " * LARGE_BYTES)]
    assert (large["cause"], large.get("invalidParams")) == (small["cause"], small.get("invalidParams"))
