from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from reference_db import Area, Cell


def test_a_cell_is_read_back_from_json(cell: Cell) -> None:
    assert Cell.model_validate_json(cell.model_dump_json()) == cell


def test_an_array_counts_its_antennas(cell: Cell) -> None:
    assert cell.antennas == 4
    assert cell.array.spacing == 0.5


@pytest.mark.parametrize("cell_id", ["", ".", "..", ".hidden", "a/b", "a\n", "a b", "-a", "ä", "a" * 65])
def test_an_id_that_is_not_a_safe_file_name_is_refused(cell: Cell, cell_id: str) -> None:
    with pytest.raises(ValidationError, match="cell_id"):
        Cell.model_validate({**cell.model_dump(), "cell_id": cell_id})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("latitude_deg", 90.1),
        ("longitude_deg", -180.1),
        ("yaw", float("nan")),
        ("height", float("inf")),
        ("carrier_frequency", 0.0),
        ("bandwidth", -1.0),
        ("bandwidth", 7.0e9),
        ("subcarriers", 0),
        ("array", {"rows": 0, "columns": 4}),
        ("colour", "red"),
    ],
)
def test_a_value_out_of_range_or_unknown_is_refused(cell: Cell, field: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        Cell.model_validate({**cell.model_dump(), field: value})


def test_a_cell_cannot_be_changed(cell: Cell) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        cell.yaw = 1.0


def test_an_area_may_extend_beyond_the_range_of_float32() -> None:
    area = Area(west=-1e300, south=0, east=1e300, north=1e39)
    assert area.holds(np.array([[1e30, 1], [-1e30, -1]], np.float32)).tolist() == [True, False]
