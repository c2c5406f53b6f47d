import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fingerpost import __version__
from reference_db import write_fingerprint_file
from service.commands.cli import app
from tests.service.plane_cell import Json, fingerprints_at, make_cell, street

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
        (("serve", "--port", "70000"), "port"),
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
        assert "error (m)" in result.output


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
    monkeypatch.setenv("FINGERPOST_ALLOWED_HOSTS", "fingerpost.example")
    monkeypatch.setenv("FINGERPOST_FOLOW_PERIOD_S", "1")
    result = fingerpost("serve")
    assert result.exit_code == 1
    warning, refusal = result.output.splitlines()
    assert "FINGERPOST_FOLLOW_PERIOD_S meant?" in warning
    assert refusal == 'fingerpost: FINGERPOST_ALLOWED_HOSTS must be a JSON list, such as ["fingerpost.example"]'


def test_a_wrong_option_is_named_as_an_option(fingerpost: Fingerpost) -> None:
    assert fingerpost("serve", "--port", "70000").output.startswith("fingerpost: --port: ")
