"""``fingerpost cells --url``, and the operators' API, with a running service."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import typer

from fingerpost import build_locate_body
from service.commands.api_session import Target, run_session
from service.settings import Settings
from tests.service.commands.conftest import Fingerpost
from tests.service.serving import serving
from tests.service.tiny_artifact import write_tiny_artifact
from tests.service.updates.wire import DESCRIPTION, assert_problem, npz, on_a_line, sent

FILE = {"Content-Type": "application/octet-stream"}
PATIENCE_S = 60


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("remote")
    write_tiny_artifact(folder)
    settings = Settings(
        port=0,
        artifact_directory=folder,
        database_directory=folder / "database",
        calibration_samples=20,
        calibration_sigmas_m=(1.0,),
        upload_limit_bytes=2**20,
    )
    with serving(settings) as url:
        yield url


def test_import_append_export_and_roll_back(
    fingerpost: Fingerpost, write: Callable[..., Path], remote: str, tmp_path: Path
) -> None:
    def done(*arguments: object) -> str:
        result = fingerpost("cells", *arguments, "--url", remote)
        assert result.exit_code == 0, result.output
        return result.output

    done("import", "c", write(), "--note", "first")
    fingerprints = on_a_line(0, 40)
    user = build_locate_body("c", fingerprints.csi[20], {"x": 20.4, "y": 0.0, "hAccuracy": 1.0})
    with httpx.Client(base_url=remote, timeout=PATIENCE_S) as client:
        located = client.post("/locate", json=user).json()
        assert located["provenance"]["cellVersion"].startswith("1-")
        done("append", "c", write("more.safetensors", on_a_line(40, 45)))
        done("export", "c", "saved.npz", "--version", "2")
        done("rollback", "c", "1")
        assert client.get("/cells/c").json()["fingerprints"] == 40
    done("import", "c", "saved.npz")
    assert "0 added" in done("diff", "c", "2")
    assert (tmp_path / "saved.npz").stat().st_size > 1000
    refused = fingerpost("cells", "show", "nowhere", "--url", remote)
    assert (refused.exit_code, "CELL_NOT_FOUND" in refused.output) == (1, True)


def test_a_streamed_body_is_limited_while_it_arrives(remote: str) -> None:
    def in_pieces(body: bytes, step: int) -> Iterator[bytes]:
        yield from (body[first : first + step] for first in range(0, len(body), step))

    body = npz(on_a_line(0, 40))
    with httpx.Client(base_url=remote, timeout=PATIENCE_S) as client:
        assert client.put("/cells/pieces", json={"cell": DESCRIPTION}).status_code == 201
        answer = client.put("/cells/pieces", content=in_pieces(body, 100), headers=FILE)
        assert (answer.status_code, answer.json()["fingerprints"]) == (200, 40)
        # A streamed upload has no Content-Length.
        long = client.put("/cells/pieces", content=in_pieces(bytes(2**20 + 1), 2**16), headers=FILE)
        assert_problem(long, 413, "BODY_TOO_LARGE")
        assert client.get("/cells/pieces").json()["fingerprints"] == 40


def test_a_broken_upload_changes_nothing(remote: str) -> None:
    place = urlsplit(remote)
    with httpx.Client(base_url=remote, timeout=PATIENCE_S) as client:
        assert client.put("/cells/patience", json={"cell": DESCRIPTION}).status_code == 201
        body = npz(on_a_line(0, 40))
        head = f"PUT /cells/patience HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FILE['Content-Type']}\r\n"
        for length in (0, 10, len(body) - 1):
            with socket.create_connection((place.hostname, place.port), timeout=PATIENCE_S) as connection:
                connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:length])
        assert client.get("/cells/patience").json()["fingerprints"] == 0


def test_only_one_of_several_writers_with_the_same_version_succeeds(remote: str) -> None:
    answers: list[httpx.Response] = []
    headers = {"Content-Type": "application/json"}
    with httpx.Client(base_url=remote, timeout=PATIENCE_S, headers=headers) as client:
        version = client.put("/cells/race", content=json_of(0, 40)).json()["version"]

        def append(first: int) -> None:
            content = json_of(first, first + 1, cell=False)
            answer = client.post("/cells/race/fingerprints", content=content, headers={"If-Match": version})
            answers.append(answer)

        writers = [threading.Thread(target=append, args=(first,)) for first in (40, 41, 42)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert sorted(answer.status_code for answer in answers) == [200, 412, 412]
        assert client.get("/cells/race").json()["fingerprints"] == 41


def json_of(first: int, last: int, *, cell: bool = True) -> bytes:
    described = {"cell": DESCRIPTION} if cell else {}
    return json.dumps(described | {"fingerprints": sent(on_a_line(first, last))}).encode()


def test_there_is_no_progress_bar_without_a_terminal(write: Callable[..., Path], remote: str) -> None:
    command = [sys.executable, "-m", "fingerpost", "cells", "import", "c", str(write()), "--url", remote]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    assert done.stderr == ""
    assert "fingerprints  40" in done.stdout


def test_a_connection_that_breaks_without_a_text_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    async def breaks(_: httpx.AsyncClient) -> None:
        raise httpx.ReadError("")

    with pytest.raises(typer.Exit):
        run_session(Target("http://127.0.0.1:9", None, None), breaks)
    assert capsys.readouterr().err.rstrip() == "fingerpost: no answer from http://127.0.0.1:9: ReadError"
