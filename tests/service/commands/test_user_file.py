"""`fingerpost locate` with a file for each of several base stations."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from fingerpost import ClientError, StationsRequest
from reference_db import (
    Cell,
    DirectoryStore,
    Fingerprints,
    LocalFrame,
    read_fingerprint_file,
    write_fingerprint_file,
)
from reference_db.layout import Layout
from service.commands.cli import app
from service.commands.user_file import read_users, read_users_of_stations
from tests.service.measured_cells import create_cells, heard_from, measured_cell, write_measuring_artifacts
from tests.service.serving import serving

HOME = LocalFrame(43.7731, 11.2560)
USERS = [(40.0, 15.0), (30.0, 20.0), (52.0, 10.0)]  # metres east and north of `HOME`
FIRST = measured_cell("first")
SECOND = measured_cell(
    "second", yaw_deg=90.0, **dict(zip(("latitude_deg", "longitude_deg"), HOME.to_wgs84(45.0, -30.0), strict=True))
)

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes what a cell's base station hears of users."""

    def write(cell: Cell, users: list[tuple[float, float]], name: str | None = None) -> Path:
        frame = LocalFrame(cell.latitude_deg, cell.longitude_deg)
        places = [frame.to_local(*HOME.to_wgs84(*user)) for user in users]
        csi = np.stack([heard_from(cell, *place) for place in places])
        n = len(users)
        path = tmp_path / f"{name or cell.cell_id}.safetensors"
        made = Fingerprints(csi, np.array(places, np.float32), np.zeros(n), np.full(n, 0.02, np.float32))
        write_fingerprint_file(path, cell, made)
        return path

    return write


def test_each_row_is_a_user_whom_all_base_stations_measured(write: Write) -> None:
    users = read_users_of_stations([write(SECOND, USERS), write(FIRST, USERS)], rows=2)
    assert len(users) == 2
    for user, (east, north) in zip(users, USERS, strict=False):
        assert isinstance(user.request, StationsRequest)
        assert [one.cell_id for one in user.request.measurements] == ["second", "first"]
        assert user.truth == pytest.approx((east - 45, north + 30), abs=1e-3)  # from the first file's base station


def test_files_that_do_not_go_together_are_refused(write: Write, tmp_path: Path) -> None:
    first = write(FIRST, USERS)
    for other, message in (
        (write(SECOND, USERS[:2]), "has 2 users and .* has 3"),
        (write(FIRST, USERS, "again"), "another of the files is of cell first"),
        (tmp_path / "absent.safetensors", "absent"),
    ):
        with pytest.raises(ClientError, match=message):
            read_users_of_stations([first, other], rows=2)
    with pytest.raises(ClientError, match="17 files"):
        read_users_of_stations([first] * 17, rows=2)


def test_the_command_locates_users_by_all_files_together(write: Write, tmp_path: Path) -> None:
    settings = write_measuring_artifacts(tmp_path / "service")
    create_cells(DirectoryStore(settings.database_directory), FIRST, SECOND)

    def locate(*files: Path) -> Result:
        return CliRunner().invoke(app, ["locate", *map(str, files), "--url", url], env={"COLUMNS": "200"})

    with serving(settings) as url:
        shown = locate(write(FIRST, USERS), write(SECOND, USERS))
        refused = locate(write(FIRST, USERS), write(measured_cell("nowhere"), USERS))
    assert shown.exit_code == 0, shown.output
    rows = [line.split() for line in shown.output.splitlines() if line.split()[:1] in (["0"], ["1"], ["2"])]
    assert [float(row[-1]) for row in rows] == pytest.approx([0, 0, 0], abs=0.05)
    assert refused.exit_code == 1
    assert "CELL_NOT_FOUND" in refused.output


def test_users_in_another_format_and_layout_are_the_same(write: Write, tmp_path: Path) -> None:
    path = write(FIRST, USERS)
    cell, made = read_fingerprint_file(path)
    np.save(tmp_path / "csi.npy", made.csi.transpose(2, 1, 0).conj())
    np.save(tmp_path / "positions.npy", made.positions * 1000)
    layout = Layout.read(axes="subcarriers,antennas,samples", conjugate=True, units="mm")
    expected = read_users(path, 2, 1.0)
    users = read_users(tmp_path / "csi.npy", 2, 1.0, cell, layout)
    assert [user.request for user in users] == [user.request for user in expected]
    with pytest.raises(ClientError, match=r"csi\.npy: .* --cell-file"):
        read_users(tmp_path / "csi.npy", 2, 1.0, None, layout)
