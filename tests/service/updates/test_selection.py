from datetime import UTC, datetime

import numpy as np
import pytest

from fingerpost.wire_cells import CellArea
from fingerpost.wire_fingerprints import Circle, Selection
from reference_db import Contents, Fingerprints, replace_cell
from service.errors import FieldIncorrect
from service.updates.selection import format_ids, select_fingerprints
from tests.service.tiny_cell import ORIGIN, tiny_cell
from tests.service.updates.wire import on_a_line


@pytest.fixture
def contents() -> Contents:
    """Ten on a line, a metre and a second apart; of the last two the time is unknown."""
    line = on_a_line(0, 10)
    times = np.where(np.arange(10) < 8, line.times, 0.0)
    return replace_cell(None, tiny_cell(), Fingerprints(line.csi, line.positions, times, line.sigmas), ORIGIN).contents


def rows(selection: Selection, contents: Contents) -> list[int]:
    return np.flatnonzero(select_fingerprints(selection, contents)).tolist()


def second(n: int) -> datetime:
    return datetime.fromtimestamp(1.7e9 + n, UTC)


def test_by_id(contents: Contents) -> None:
    names = format_ids(contents.ids)
    assert rows(Selection(ids=[names[7], names[2], "f" * 16]), contents) == [2, 7]
    assert all(len(name) == 16 for name in names)


def test_by_area_edges_included(contents: Contents) -> None:
    assert rows(Selection(area=CellArea(west=2, south=-1, east=4, north=0)), contents) == [2, 3, 4]


def test_by_distance_from_a_place(contents: Contents) -> None:
    cell = contents.manifest.cell
    around = Circle(lat=cell.latitude_deg, lon=cell.longitude_deg, radius=2.5)
    assert rows(Selection(circle=around), contents) == [0, 1, 2]


def test_by_age_unknown_ones_only_when_asked_for(contents: Contents) -> None:
    assert rows(Selection(measured_before=second(2)), contents) == [0, 1]
    assert rows(Selection(measured_before=second(2), unknown_time=True), contents) == [0, 1, 8, 9]
    assert rows(Selection(unknown_time=True), contents) == [8, 9]


def test_criteria_narrow_each_other(contents: Contents) -> None:
    area = CellArea(west=1, south=-1, east=8, north=1)
    assert rows(Selection(area=area, measured_before=second(3)), contents) == [1, 2]
    assert rows(Selection(area=area, unknown_time=True), contents) == [8]


def test_no_criterion_selects_nothing(contents: Contents) -> None:
    with pytest.raises(FieldIncorrect):
        select_fingerprints(Selection(), contents)
