from dataclasses import replace
from pathlib import Path

import numpy as np

from models.radio.channel import synthesise
from models.radio.front_end import Radio
from models.radio.path_table import PathTable, concatenate, take_users
from reference_db.cell import AntennaArray

DATA = Path(__file__).parents[1] / "data"
RADIO = Radio(array=AntennaArray(rows=1, columns=4), subcarriers=8, bandwidth=40e6)


def without_user(table: PathTable, user: int) -> PathTable:
    """The same table with one user's paths taken away, but not the user."""
    first, last = table.offsets[user], table.offsets[user + 1]
    keep = np.r_[0:first, last : len(table.gain)]
    offsets = table.offsets.copy()
    offsets[user + 1 :] -= last - first
    columns = {name: getattr(table, name)[keep] for name in ("gain", "delay", "departure", "arrival", "interactions")}
    return replace(table, offsets=offsets, **columns)


def test_a_saved_table_loads_as_it_was_and_saves_to_the_same_bytes(table: PathTable, tmp_path: Path) -> None:
    table.save(tmp_path / "once")
    loaded = PathTable.load(tmp_path / "once")
    loaded.save(tmp_path / "again")
    assert (tmp_path / "once").read_bytes() == (tmp_path / "again").read_bytes()
    assert loaded.site == table.site
    np.testing.assert_array_equal(loaded.gain, table.gain)
    assert not list(tmp_path.glob("*.partial"))


def test_columns_with_another_memory_layout_are_saved_correctly(table: PathTable, tmp_path: Path) -> None:
    table.save(tmp_path / "rows")
    replace(table, departure=np.asfortranarray(table.departure)).save(tmp_path / "columns")
    assert (tmp_path / "rows").read_bytes() == (tmp_path / "columns").read_bytes()


def test_a_user_that_no_path_reaches_is_kept_with_zero_csi(table: PathTable) -> None:
    blocked = without_user(table, 3)
    assert not blocked.reached[3]
    assert not blocked.line_of_sight[3]
    assert len(blocked.users) == len(table.users)
    csi = synthesise(blocked, RADIO, 0.0)
    assert not csi[3].any()
    np.testing.assert_array_equal(csi[4], synthesise(table, RADIO, 0.0)[4])


def test_line_of_sight_users_have_a_path_as_long_as_the_straight_line(table: PathTable) -> None:
    assert table.line_of_sight.any()
    straight = np.linalg.norm(table.users.astype(np.float64), axis=1)
    shortest = np.minimum.reduceat(table.delay, table.offsets[:-1]) * 299_792_458.0
    seen = table.line_of_sight & table.reached
    np.testing.assert_allclose(shortest[seen], straight[seen], atol=0.01)
    # Without one, the shortest may still be straight: through a wall.
    assert (shortest >= straight - 0.01)[table.reached].all()


def test_joining_parts_gives_the_whole(table: PathTable) -> None:
    doubled = concatenate([table, table])
    assert len(doubled.users) == 2 * len(table.users)
    np.testing.assert_array_equal(doubled.paths_per_user, np.tile(table.paths_per_user, 2))
    np.testing.assert_array_equal(doubled.delay[len(table.delay) :], table.delay)


def test_horizontal_gains_are_saved_loaded_and_joined(table: PathTable, tmp_path: Path) -> None:
    polarised = replace(table, horizontal_gain=(2j * table.gain).astype(np.complex64))
    polarised.save(tmp_path / "polarised")
    loaded = PathTable.load(tmp_path / "polarised")
    assert loaded.horizontal_gain is not None
    np.testing.assert_array_equal(loaded.horizontal_gain, polarised.horizontal_gain)
    np.testing.assert_array_equal(loaded.gain, table.gain)
    joined = concatenate([loaded, polarised]).horizontal_gain
    assert joined is not None
    np.testing.assert_array_equal(joined, np.tile(loaded.horizontal_gain, 2))


def test_a_table_joined_with_one_without_horizontal_gains_has_none(table: PathTable) -> None:
    polarised = replace(table, horizontal_gain=table.gain)
    assert concatenate([polarised, table]).horizontal_gain is None
    assert concatenate([table, table]).horizontal_gain is None


def test_tables_of_before_there_were_horizontal_gains_keep_their_bytes(table: PathTable, tmp_path: Path) -> None:
    table.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (DATA / "etoile-0900.paths.safetensors").read_bytes()


def test_users_that_are_taken_keep_their_paths(table: PathTable, tmp_path: Path) -> None:
    blocked = without_user(table, 3)
    parts = [take_users(blocked, 0, 2), take_users(blocked, 2, 5), take_users(blocked, 5, len(blocked.users))]
    assert [len(part.users) for part in parts] == [2, 3, len(blocked.users) - 5]
    assert not parts[1].reached[1]
    concatenate(parts).save(tmp_path / "parts")
    blocked.save(tmp_path / "whole")
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()
