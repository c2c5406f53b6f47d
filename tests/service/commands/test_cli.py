import json
import math
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fingerpost import __version__
from reference_db import write_fingerprint_file
from service.commands import cli
from service.commands.cli import app
from tests.fingerpost.scripted import answering
from tests.redis_servers import GUARD_S
from tests.service.plane_cell import Json, fingerprints_at, make_cell, street
from tests.service.running import tiny_service

Fingerpost = Callable[..., Result]


@pytest.fixture
def fingerpost(monkeypatch: pytest.MonkeyPatch) -> Fingerpost:
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "plane.safetensors"
    write_fingerprint_file(path, make_cell("plane"), fingerprints_at(street(70, seed=1)))
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("locate", "absent.json"), "absent.json"),
        (("locate", "plane.safetensors", "--url", "http://127.0.0.1:9"), "no answer"),
        (("serve", "--artifact", "nowhere"), "artifact"),
    ],
)
def test_a_mistake_ends_the_command_with_one_line(
    fingerpost: Fingerpost, file: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(file.parent)
    result = fingerpost(*arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_locate_takes_a_file_of_fingerprints(fingerpost: Fingerpost, file: Path, url: str) -> None:
    for options in ((), ("--no-coarse",)):
        result = fingerpost("locate", file, "--url", url, "--rows", 3, *options)
        assert result.exit_code == 0, result.output
        assert "error" in result.output


def test_locate_prints_a_line_of_json_for_each_of_any_number_of_users(
    fingerpost: Fingerpost, file: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "MOST_IN_A_BATCH", 3)
    result = fingerpost("locate", file, "--url", url, "--rows", 1000, "--json")
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["user"] for line in lines] == list(range(70))
    for line in lines:
        place = line["answer"]["localLocationEstimate"]["point"]
        assert line["error"] == pytest.approx(math.dist(line["truth"].values(), (place["x"], place["y"])))


def test_a_user_who_is_not_located_is_a_line_with_the_problem(
    fingerpost: Fingerpost, tmp_path: Path, url: str, request_body: Callable[..., Json]
) -> None:
    (tmp_path / "one.json").write_text(json.dumps(request_body(cellId="nowhere")))
    result = fingerpost("locate", tmp_path / "one.json", "--url", url, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["problem"]["cause"] == "CELL_NOT_FOUND"


def test_locate_takes_a_request_or_a_batch(
    fingerpost: Fingerpost, tmp_path: Path, url: str, request_body: Callable[..., Json]
) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    one.write_text(json.dumps(request_body()))
    two.write_text(json.dumps({"items": [request_body(), request_body(cellId="nowhere")]}))
    assert fingerpost("locate", one, "--url", url).exit_code == 0
    result = fingerpost("locate", two, "--url", url)
    assert result.exit_code == 1
    assert "CELL_NOT_FOUND" in result.output


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is neither a request nor a batch"),
        ('{"items": [{"cellId": "no/cell"}]}', "/items/0/cellId"),
        ('{"cellId": "a", "cellId": "b"}', "'cellId' is there more than once"),
        ('{"measurements": [{"cellId": "no/cell"}, 7]}', "/measurements/0/cellId"),
        ('{"items": [{"measurements": []}]}', "/items/0/measurements"),
    ],
)
def test_a_wrong_request_file_is_refused_with_the_field_at_fault(
    fingerpost: Fingerpost, tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "wrong.json").write_text(content)
    result = fingerpost("locate", tmp_path / "wrong.json")
    assert (result.exit_code, message in result.output) == (1, True), result.output


def test_version_and_help(fingerpost: Fingerpost) -> None:
    assert fingerpost("--version").output == f"fingerpost {__version__}\n"
    shown = fingerpost("--help").output
    assert all(command in shown for command in ("serve", "locate", "cells", "keys", "models"))


def test_serve_names_a_wrong_setting_in_one_line_and_warns_of_a_misspelt_one(
    fingerpost: Fingerpost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINGERPOST_ALLOWED_HOSTS", "https://fingerpost.example")
    monkeypatch.setenv("FINGERPOST_DRAIN_S", "soon")
    monkeypatch.setenv("FINGERPOST_FOLOW_PERIOD_S", "1")
    result = fingerpost("serve")
    assert result.exit_code == 2
    warning, *refusals = result.output.splitlines()
    assert "FINGERPOST_FOLLOW_PERIOD_S meant?" in warning
    assert [line.split()[1] for line in refusals] == ["FINGERPOST_ALLOWED_HOSTS[0]", "FINGERPOST_DRAIN_S"]


def test_a_wrong_option_is_named_as_an_option(fingerpost: Fingerpost) -> None:
    assert fingerpost("serve", "--port", "70000").output.startswith("fingerpost: --port: ")


def complete(line: str) -> list[str]:
    """What bash offers after this line."""
    words = line.split()
    position = len(words) - (not line.endswith(" "))
    environment = {"_FINGERPOST_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(position)}
    return CliRunner().invoke(app, [], env=environment, prog_name="fingerpost").stdout.split()


def test_names_of_cells_are_completed_from_the_service_or_the_database(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_service(tmp_path)  # with a cell `c`
    monkeypatch.setenv("FINGERPOST_DATABASE_DIRECTORY", str(tmp_path / "database"))
    assert complete("fingerpost cells sh") == ["show"]
    assert complete("fingerpost cells show ") == ["c"]
    assert complete("fingerpost cells show x") == []
    assert "plane" in complete(f"fingerpost cells show --url {url} pl")
    monkeypatch.setenv("FINGERPOST_URL", url)
    assert "plane" in complete("fingerpost cells show pl")
    assert complete(f"fingerpost cells show --database {tmp_path / 'database'} ") == ["c"]
    monkeypatch.setenv("FINGERPOST_URL", "http://127.0.0.1:9")
    assert complete("fingerpost cells show ") == []


def test_the_environment_may_name_the_service(
    fingerpost: Fingerpost, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tiny_service(tmp_path).database_directory
    monkeypatch.setenv("FINGERPOST_URL", url)
    listed = json.loads(fingerpost("cells", "list", "--json").stdout)
    assert "plane" in [cell["cellId"] for cell in listed["cells"]]
    typed = json.loads(fingerpost("cells", "list", "--database", database, "--artifact", tmp_path, "--json").stdout)
    assert [cell["cellId"] for cell in typed["cells"]] == ["c"]
    both = fingerpost("cells", "list", "--database", database, "--url", url)
    assert (both.exit_code, both.stderr) == (2, "fingerpost: give --url or --database, not both\n")


def test_an_interrupted_command_ends_without_a_word() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        command = [sys.executable, "-m", "fingerpost", "cells", "list", "--url", url]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(command, text=True, **pipes) as process:
            connection, _ = silent.accept()
            connection.recv(1)
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=GUARD_S)
            connection.close()
    assert (process.returncode, said) == (130, ("", ""))


@pytest.mark.parametrize(
    "url", ["http://me:hidden@127.0.0.1:9", "http://me:hidden@127.0.0.1:port", "http://me:hidden/@["]
)
@pytest.mark.parametrize("command", ["locate", "cells"])
def test_a_password_in_a_url_is_not_shown(fingerpost: Fingerpost, file: Path, url: str, command: str) -> None:
    result = fingerpost(*(("locate", file) if command == "locate" else ("cells", "list")), "--url", url)
    assert (result.exit_code, "no answer from" in result.output, "hidden" in result.output) == (1, True, False)


@pytest.mark.parametrize("arguments", [["--version"], ["keys", "--help"]])
def test_output_that_cannot_be_written_is_a_line_and_not_a_traceback(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "fingerpost", *arguments]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=GUARD_S)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "the output cannot be written" in done.stderr
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=GUARD_S)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_page_of_a_proxy_is_no_answer(fingerpost: Fingerpost) -> None:
    with answering(b"<html>", Content_Type="text/html") as url:
        result = fingerpost("cells", "list", "--url", url)
    assert result.exit_code == 1
    assert result.stderr == "fingerpost: the answer is not one of this API, but 200 text/html\n"


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{shlex.quote(sys.executable)} -m fingerpost cells correct --help | head -c 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=GUARD_S)
    assert done.stderr == ""
