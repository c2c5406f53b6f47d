"""Outlines of streets and buildings, from an operator's GeoJSON file to the metres of a cell."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reference_db.geodesy import LocalFrame
from service.console.outlines import OutlinesUnreadable, read_outlines
from tests.service.running import running
from tests.service.tiny_service import make_tiny_settings

FRAME = LocalFrame(43.7, 11.2)  # of the tiny cell


def place(east: float, north: float) -> list[float]:
    """GeoJSON names the longitude first."""
    lat, lon = FRAME.to_wgs84(east, north)
    return [lon, lat]


def write(path: Path, *geometries: dict[str, Any]) -> Path:
    features = [{"type": "Feature", "properties": {}, "geometry": one} for one in geometries]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


@pytest.mark.anyio
async def test_lines_and_polygons_near_a_cell_are_given_in_its_metres(tmp_path: Path) -> None:
    street = {"type": "LineString", "coordinates": [place(-10, 5), place(60, 5)]}
    yard = [[place(0, 10), place(20, 10), place(20, 30), place(0, 10)], [place(5, 12), place(6, 12), place(5, 12)]]
    far = {"type": "LineString", "coordinates": [place(5000, 0), place(5100, 0)]}
    lamp = {"type": "Point", "coordinates": place(0, 0)}
    several = {"type": "MultiPolygon", "coordinates": [yard]}
    file = write(tmp_path / "streets.geojson", street, {"type": "Polygon", "coordinates": yard}, far, lamp, several)
    async with running(make_tiny_settings(tmp_path, console_outlines=file)) as client:
        answer = (await client.get("/console/outlines/c")).raise_for_status().json()
        unknown = await client.get("/console/outlines/none")
    assert answer["complete"] is True
    lines = answer["lines"]
    assert [len(line) for line in lines] == [2, 4, 3, 4, 3]
    assert all(math.dist(*pair) < 0.02 for pair in zip(lines[0], [(-10, 5), (60, 5)], strict=True))
    assert math.dist(lines[1][2], (20, 30)) < 0.02
    assert (unknown.status_code, unknown.json()["cause"]) == (404, "CELL_NOT_FOUND")


@pytest.mark.anyio
async def test_without_a_file_there_are_no_outlines(tmp_path: Path) -> None:
    async with running(make_tiny_settings(tmp_path)) as client:
        assert (await client.get("/console/outlines/c")).json() == {"lines": [], "complete": True}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ('{"type": "FeatureCollection", "features": []}', "no lines or polygons"),
        ('{"type": "LineString", "coordinates": [[681000, 4844000], [681010, 4844000]]}', "WGS84 degrees"),
        ('{"type": "LineString", "coordinates": [[11, "x"]]}', "WGS84 degrees"),
        ('{"type": "LineString"}', "WGS84 degrees"),
    ],
)
def test_a_file_that_is_no_geojson_is_refused_with_the_reason(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "streets.geojson"
    file.write_text(content)
    with pytest.raises(OutlinesUnreadable, match=words):
        read_outlines(file)


def test_the_service_does_not_start_without_the_file_that_its_settings_name(tmp_path: Path) -> None:
    missing = tmp_path / "missing.geojson"
    environment = {"FINGERPOST_CONSOLE_OUTLINES": str(missing), "FINGERPOST_DATABASE_DIRECTORY": str(tmp_path)}
    command = [sys.executable, "-m", "fingerpost", "serve", "--port", "0"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert f"{missing}: No such file or directory" in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr
