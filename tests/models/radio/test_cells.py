import dataclasses
from pathlib import Path

import numpy as np
import pytest

from models.mateformer.recipe import MateformerRecipe
from models.radio.cells import digest_tables, load_cell, load_cells, table_paths
from models.radio.path_table import PathTable, PathTablesMissing
from models.radio.street_changes import StreetState, Traffic
from models.radio.tracing import band_folder, table_path

DATA = Path(__file__).parents[1] / "data"


def test_users_that_no_path_reaches_are_counted_and_left_out(
    table: PathTable, mateformer_recipe: MateformerRecipe, tmp_path
) -> None:
    per_path = ("gain", "delay", "departure", "arrival", "interactions")
    silent = dataclasses.replace(
        table, offsets=np.zeros_like(table.offsets), **{name: getattr(table, name)[:0] for name in per_path}
    )
    silent.save(tmp_path / "silent")
    empty = load_cell(tmp_path / "silent", mateformer_recipe.radio)
    assert len(empty.positions) == 0
    assert empty.unreached == len(table.users)


def test_the_error_for_an_untraced_cell_names_it(mateformer_recipe: MateformerRecipe) -> None:
    with pytest.raises(FileNotFoundError, match="munich-0042"):
        load_cells(["munich:42"], DATA, mateformer_recipe.radio)


def test_a_cell_is_loaded_in_a_state_of_its_street_and_at_a_carrier(
    table: PathTable, mateformer_recipe: MateformerRecipe, tmp_path: Path
) -> None:
    folder, busy = band_folder(tmp_path, 2.6e9), Traffic(3)
    folder.mkdir()
    file = table_path(folder, "etoile", 900, street=busy)
    assert file.name == "etoile-0900-traffic-3.paths.safetensors"
    site = dataclasses.replace(table.site, street=str(busy), carrier_frequency=2.6e9)
    dataclasses.replace(table, site=site).save(file)
    assert table_paths(["etoile:900"], tmp_path, busy, 2.6e9) == [file]
    assert PathTable.load(file).site == site
    (cell,) = load_cells(["etoile:900"], tmp_path, mateformer_recipe.radio, busy, 2.6e9)
    assert cell.name == "etoile-0900"  # it is the same cell
    with pytest.raises(PathTablesMissing, match=r"2\.6GHz --carrier-ghz 2\.6 --street cars$"):
        load_cells(["etoile:900"], tmp_path, mateformer_recipe.radio, StreetState.CARS, 2.6e9)


def test_the_data_digest_follows_the_bytes(table: PathTable, tmp_path: Path) -> None:
    name = "etoile-0900.paths.safetensors"
    (tmp_path / name).write_bytes((DATA / name).read_bytes())
    assert digest_tables(table_paths(["etoile:900"], tmp_path)) == digest_tables(table_paths(["etoile:900"], DATA))
    dataclasses.replace(table, delay=table.delay * 2).save(tmp_path / name)
    assert digest_tables(table_paths(["etoile:900"], tmp_path)) != digest_tables(table_paths(["etoile:900"], DATA))
