"""Tables of positions beside a capture."""

from pathlib import Path

import numpy as np
import pytest

from reference_db import BadFingerprintFile
from reference_db.sources.packet_positions import MOST_SECONDS, place_packets

TIMES = np.arange(10.0)


def table(folder: Path, text: str, name: str = "walk.csv") -> Path:
    (folder / name).write_text(text)
    return folder / "walk.pcap"


def test_packets_that_the_table_names_get_its_places_in_their_own_order(tmp_path: Path) -> None:
    placed = place_packets(table(tmp_path, "packet,x,y,sigma\n7,1,2,0.1\n3,4,5,0.2\n"), TIMES)
    assert placed.rows.tolist() == [3, 7]
    assert {name: values.tolist() for name, values in placed.columns.items()} == {
        "x": [4, 1],
        "y": [5, 2],
        "sigmas": [0.2, 0.1],
    }


def test_capitals_in_the_names_of_columns_do_not_matter(tmp_path: Path) -> None:
    assert place_packets(table(tmp_path, "Packet,X,Y\n7,1,2\n"), TIMES).rows.tolist() == [7]


def test_places_between_near_times_lie_on_a_line_and_packets_outside_have_none(tmp_path: Path) -> None:
    placed = place_packets(table(tmp_path, f"time,x,y\n2,0,10\n{2 + MOST_SECONDS},4,10\n"), TIMES)
    assert placed.rows.tolist() == [2, 3, 4]
    np.testing.assert_allclose(placed.columns["x"], [0, 2, 4])
    np.testing.assert_allclose(placed.columns["y"], 10)


def test_a_user_who_stays_keeps_the_place_and_one_who_walks_too_long_has_none(tmp_path: Path) -> None:
    """From 0 to 3 s at one point, from 6 to 9 s at another; on the way nobody knows where."""
    placed = place_packets(table(tmp_path, "time,lat,lon\n0,48.1,9.1\n3,48.1,9.1\n6,48.2,9.1\n9,48.2,9.1\n"), TIMES)
    assert placed.rows.tolist() == [0, 1, 2, 3, 6, 7, 8, 9]
    np.testing.assert_allclose(placed.columns["latitudes_deg"], [48.1] * 4 + [48.2] * 4)
    assert placed.hint is None


@pytest.mark.parametrize(("last", "hints"), [(9, False), (8, True)])
def test_a_table_of_times_without_stays_hints_at_them_where_packets_lack_a_place(
    tmp_path: Path, last: int, hints: bool
) -> None:
    walk = "".join(f"{second},{second},0\n" for second in range(last + 1))
    placed = place_packets(table(tmp_path, "time,x,y\n" + walk), TIMES)
    assert (placed.hint is not None) == hints


def test_the_table_of_a_capture_comes_before_that_of_the_folder(tmp_path: Path) -> None:
    table(tmp_path, "packet,x,y\n1,1,1\n", "positions.csv")
    assert place_packets(tmp_path / "walk.pcap", TIMES).rows.tolist() == [1]
    assert place_packets(table(tmp_path, "packet,x,y\n2,1,1\n"), TIMES).rows.tolist() == [2]


def test_numbered_packets_of_several_captures_need_a_table_each(tmp_path: Path) -> None:
    capture = table(tmp_path, "packet,x,y\n1,1,1\n", "positions.csv")
    for name in ("walk.pcap", "drive.pcap"):
        (tmp_path / name).touch()
    with pytest.raises(BadFingerprintFile, match=r"there are 2 captures; call it walk\.csv, one for each"):
        place_packets(capture, TIMES)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("packet,x\n1,1\n", "x and y, or lat and lon; the file has packet"),
        ("x,y\n1,1\n", "either the column packet or the column time"),
        ("packet,time,x,y\n1,1,1,1\n", "it has both packet and time; keep one"),
        ("packet,x,y\n", "walk.csv: it has no rows"),
        ("time,x,y\n\n", "walk.csv: it has no rows"),
        ("packet,x,y\n9,1,1\n10,1,1\n", "names packet 10, which is not there; the capture has 0 to 9"),
        ("packet,x,y\n-1,1,1\n", "names packet -1, which is not there"),
        ("packet,x,y\n1.5,1,1\n", "names packet 1.5, which is not there"),
        ("packet,x,y\n1e300,1,1\n", "names packet 1e+300, which is not there"),
        ("packet,x,y\n3,1,1\n7,2,2\n1,1,1\n7,3,3\n", "names packet 7 twice"),
        ("packet,x,y\n1,nan,1\n", "a number that is not finite"),
        ("time,x,y\n1,1,1\n", "two rows or more"),
        ("time,x,y\n2,1,1\n1,1,1\n", "their times must ascend"),
        ("time,x,y\n100,1,1\n101,1,1\n", "packets go from 0.000 to 9.000 s, the table from 100.000 to 101.000 s"),
        ("packet,x,y\n1,wet,1\n", "line 2, column x: 'wet' is not a number"),
    ],
)
def test_a_wrong_table_is_named_with_what_is_wrong(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(BadFingerprintFile) as refused:
        place_packets(table(tmp_path, text), TIMES)
    assert str(refused.value).startswith("walk.csv: ")
    assert complaint in str(refused.value)


def test_a_capture_without_positions_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(BadFingerprintFile, match=r"write them into walk\.csv or positions\.csv beside it"):
        place_packets(tmp_path / "walk.pcap", TIMES)
