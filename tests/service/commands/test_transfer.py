"""Uploads that tell what the service does with them."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from reference_db import write_fingerprint_file
from service.cells import examiner
from service.commands import transfer
from tests.service.running import running_one_artifact
from tests.service.tiny_cell import tiny_cell
from tests.service.updates.wire import assert_problem, on_a_line


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with running_one_artifact(tmp_path) as client:
        yield client


@pytest.mark.anyio
async def test_the_stages_of_an_import_are_printed_where_there_is_no_terminal(
    client: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calibrate = examiner.calibrate

    def calibrate_slowly(*arguments: Any) -> Any:
        time.sleep(0.2)  # so that the stage is asked for
        return calibrate(*arguments)

    monkeypatch.setattr(examiner, "calibrate", calibrate_slowly)
    monkeypatch.setattr(transfer, "_ASKED_EVERY_S", 0.001)
    file = tmp_path / "c.safetensors"
    write_fingerprint_file(file, tiny_cell(), on_a_line(0, 40))
    answer = await transfer.upload_file(client, "PUT", "/cells/c", file, {}, {})
    assert answer.status_code == 201, answer.text
    printed = capsys.readouterr().err.splitlines()
    assert "fingerpost: calibrating" in printed
    assert set(printed) <= {
        f"fingerpost: {stage}" for stage in ("reading", "checking", "indexing", "testing", "calibrating", "publishing")
    }
    assert (await client.get("/cells/c/change")).json() == {"cellId": "c"}


@pytest.mark.anyio
async def test_a_refused_upload_leaves_no_stage(client: httpx.AsyncClient, tmp_path: Path) -> None:
    file = tmp_path / "c.safetensors"
    file.write_bytes(b"no tensors")
    answer = await transfer.upload_file(client, "PUT", "/cells/c", file, {}, {})
    assert answer.status_code == 400
    assert_problem(await client.get("/cells/c/change"), 404, "CELL_NOT_FOUND", "/cellId")


@pytest.mark.anyio
async def test_a_stage_is_told_of_a_cell_that_is_being_created_and_of_no_other_unknown_cell(
    client: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrating, go_on = threading.Event(), threading.Event()
    calibrate = examiner.calibrate

    def calibrate_later(*arguments: Any) -> Any:
        calibrating.set()
        assert go_on.wait(30)
        return calibrate(*arguments)

    monkeypatch.setattr(examiner, "calibrate", calibrate_later)
    file = tmp_path / "c.safetensors"
    write_fingerprint_file(file, tiny_cell(), on_a_line(0, 40))
    assert_problem(await client.get("/cells/c/change"), 404, "CELL_NOT_FOUND", "/cellId")
    creation = asyncio.create_task(transfer.upload_file(client, "PUT", "/cells/c", file, {}, {}))
    assert await asyncio.to_thread(calibrating.wait, 30)
    try:
        assert (await client.get("/cells/c/change")).json()["stage"] == "calibrating"
        assert_problem(await client.get("/cells/nope/change"), 404, "CELL_NOT_FOUND", "/cellId")
    finally:
        go_on.set()
    assert (await creation).status_code == 201
    assert (await client.get("/cells/c/change")).json() == {"cellId": "c"}


@pytest.mark.anyio
async def test_a_creation_that_has_not_begun_yet_is_asked_for_again() -> None:
    answers = [
        httpx.Response(404, json={"cause": "CELL_NOT_FOUND", "detail": "no such cell"}),
        httpx.Response(200, json={"cellId": "c", "stage": "reading"}),
        httpx.Response(404, json={"cause": "NOT_FOUND", "detail": "no such route"}),
        httpx.Response(502, text="<html>"),
    ]
    transport = httpx.MockTransport(lambda _: answers.pop(0))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        stages = [await transfer._ask_stage(client, "/cells/c/change") for _ in range(4)]
    assert stages == [None, "reading", "working", "working"]
