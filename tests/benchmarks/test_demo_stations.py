from pathlib import Path

import numpy as np
import pytest

from benchmarks.demo_stations import StationsResult, locate_by_stations, shown_streets
from reference_db import Cell, DirectoryStore, Fingerprints, LocalFrame, write_fingerprint_file
from tests.service.measured_cells import create_cells, heard_from, measured_cell, write_measuring_artifacts
from tests.service.serving import serving

HOME = LocalFrame(43.7731, 11.2560)
USERS = [(40.0, 55.0), (30.0, 40.0), (52.0, 60.0)]  # metres east and north of `HOME`


def cell_at(cell_id: str, east: float, north: float, yaw_deg: float) -> Cell:
    latitude, longitude = HOME.to_wgs84(east, north)
    return measured_cell(cell_id, yaw_deg=yaw_deg, latitude_deg=latitude, longitude_deg=longitude)


CELLS = [cell_at("town-0001", 45.0, -25.0, 80), cell_at("town-0001-1", -40.0, 60.0, 10)]


def write_station(folder: Path, cell: Cell, users: list[tuple[float, float]]) -> None:
    frame = LocalFrame(cell.latitude_deg, cell.longitude_deg)
    places = np.array([frame.to_local(*HOME.to_wgs84(*user)) for user in users])
    csi = np.stack([heard_from(cell, *place) for place in places.tolist()])
    n = len(users)
    fingerprints = Fingerprints(csi, places.astype(np.float32), np.zeros(n), np.full(n, 0.02, np.float32))
    write_fingerprint_file(folder / f"{cell.cell_id}-stations.safetensors", cell, fingerprints)
    truth = np.stack([np.hypot(*places.T), np.arctan2(places[:, 1], places[:, 0]), [1.0, 0.0, 1.0]], axis=1)
    np.save(folder / f"{cell.cell_id}-first-paths.npy", truth)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> StationsResult:
    folder = tmp_path_factory.mktemp("demo")
    settings = write_measuring_artifacts(folder)
    create_cells(DirectoryStore(settings.database_directory), *CELLS)
    for cell in CELLS:
        write_station(folder, cell, USERS)
    with serving(settings) as url:
        return locate_by_stations(url, [folder / f"{cell.cell_id}-stations.safetensors" for cell in CELLS])


def test_users_are_located_by_each_base_station_and_by_all_of_them(result: StationsResult) -> None:
    assert result.cells == ["town-0001", "town-0001-1"]
    assert result.together.shape == (3,)
    assert result.together.max() < 0.05
    assert max(errors.max() for errors in result.alone.values()) < 0.05
    assert result.inside.all()
    assert result.disagreeing == 0


def test_measurements_are_compared_with_the_first_paths(result: StationsResult) -> None:
    assert result.ranges.shape == result.angles.shape == (2, 3)
    assert result.ranges.max() < 0.05
    assert result.angles.max() < 0.05


def test_each_way_has_a_line(result: StationsResult) -> None:
    alone, measured, together = result.lines()
    assert "3 users of 2 base stations" in alone
    assert "town-0001-1 0.0" in alone
    assert "mean error of the range 0.0" in measured
    assert "100.0 % inside their stated 95 % area, 0 users whose stations disagree" in together


def test_files_of_one_street_belong_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINGERPOST_LWLM_ARTIFACT_DIRECTORY", str(tmp_path))
    names = ["rome-0002", "rome-0002-1", "rome-0002-10", "oslo-0300", "oslo-0300-1", "bern-0001"]
    for name in names:
        (tmp_path / f"{name}-stations.safetensors").touch()
    streets = [[file.name.removesuffix("-stations.safetensors") for file in files] for files in shown_streets(tmp_path)]
    assert streets == [["oslo-0300", "oslo-0300-1"], ["rome-0002", "rome-0002-1", "rome-0002-10"]]
