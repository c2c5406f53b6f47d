"""The example programs, against a running service."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fingerpost import Client
from reference_db import write_fingerprint_file
from reference_db.geodesy import LocalFrame
from tests.service.plane_cell import USER, fingerprints_at, make_cell, street, users_at

EXAMPLES = Path(__file__).parents[2] / "examples"
CELL = make_cell("plane")
PLACES = street(60, 5)
NUMBER = re.compile(r"-?\d+\.\d+")


def run(command: Sequence[object], **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*map(str, command)], capture_output=True, check=False, **options)  # type: ignore[call-overload, no-any-return]


def errors_of(lines: Sequence[str], places: np.ndarray) -> np.ndarray:
    """Metres between the latitudes and longitudes in the lines and the places `[n, 2]`."""
    frame = LocalFrame(CELL.latitude_deg, CELL.longitude_deg)
    located = [frame.to_local(*map(float, NUMBER.findall(line)[:2])) for line in lines]
    return np.hypot(*(np.array(located) - places).T)


def test_the_python_back_end_locates_all_users_and_outlives_bad_ones(url: str, tmp_path: Path) -> None:
    users = fingerprints_at(PLACES)
    write_fingerprint_file(tmp_path / "users.safetensors", CELL, users)
    with Client(url) as client:
        client.locate("plane", users.csi[0])  # loads the cell, which takes longer than a user can wait
    ran = run([sys.executable, EXAMPLES / "backend.py", url, tmp_path / "users.safetensors"])
    assert ran.returncode == 0, ran.stderr
    located = {int(re.findall(r"\d+", line)[0]): line.split(":", 1)[1] for line in ran.stdout.decode().splitlines()}
    late = ran.stderr.decode().splitlines()
    assert len(located) + len(late) == len(PLACES)
    assert all("MAX_RESP_TIME_EXCEEDED" in line for line in late)
    assert np.median(errors_of([*located.values()], PLACES[[*located]])) < 1
    absent = run([sys.executable, EXAMPLES / "backend.py", "http://127.0.0.1:9", tmp_path / "users.safetensors"])
    assert (absent.returncode, absent.stdout) == (0, b"")
    assert absent.stderr.count(b"nobody located: no answer") == 2
    assert len((EXAMPLES / "backend.py").read_text().splitlines()) <= 40


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The back end in C++, compiled."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler here")
    built = tmp_path_factory.mktemp("cpp") / "backend"
    strict = ("-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")
    compiled = run([compiler, *strict, "-o", built, EXAMPLES / "cpp" / "backend.cpp"])
    assert compiled.returncode == 0, compiled.stderr.decode()
    return built


def test_the_back_end_in_c_plus_plus_locates_users_over_one_connection(program: Path, url: str) -> None:
    places = USER + np.array([[0, 0], [1, 1], [2, -1], [-1, 2]], np.float32)
    csi = users_at(places)
    host, port = url.removeprefix("http://").split(":")
    ran = run([program, host, port, "plane", 32, 32], input=csi.tobytes())
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.decode().splitlines()
    assert len(lines) == len(csi)
    assert max(errors_of(lines, places)) < 5
    with Client(url) as client:
        answers = [client.locate("plane", one) for one in csi]
    assert [line.split()[-1] for line in lines] == [one.provenance.source for one in answers]
    sent, same = [float(NUMBER.findall(line)[2]) for line in lines], [one.h_accuracy for one in answers]
    assert sent == pytest.approx(same)


def test_the_back_end_in_c_plus_plus_says_what_was_refused(program: Path, url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    ran = run([program, host, port, "nowhere", 32, 32], input=users_at(PLACES[:2]).tobytes())
    assert (ran.returncode, ran.stdout) == (1, b"")
    assert ran.stderr.count(b'404 {"type"') == ran.stderr.count(b"CELL_NOT_FOUND") == 2
    assert run([program]).returncode == 2
    away = run([program, "127.0.0.1", 9, "plane", 32, 32], input=users_at(PLACES[:1]).tobytes(), env=os.environ)
    assert (away.returncode, away.stdout) == (1, b"")
    assert b"cannot connect" in away.stderr
