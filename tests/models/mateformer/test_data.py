import dataclasses
from pathlib import Path

import numpy as np
import pytest

from models.mateformer.data import build_corpus, data_digest, load_cell, load_cells
from models.pipeline.recipe import Recipe
from models.radio.path_table import PathTable

DATA = Path(__file__).parents[1] / "data"


def test_a_corpus_holds_every_yaw_of_every_cell_with_an_index_each(small_recipe: Recipe, table: PathTable) -> None:
    corpus = build_corpus(["etoile:900"], DATA, small_recipe.radio, seed=1)
    users = int(table.reached.sum())
    assert [len(index) for index in corpus.indices] == [users] * small_recipe.radio.yaws
    assert corpus.csi.shape == (users * small_recipe.radio.yaws, 8, 8)
    np.testing.assert_array_equal(corpus.positions[:users], corpus.positions[users:])
    # Another yaw is another array response to the same paths: other phases, not another city.
    assert np.abs(corpus.csi[:users] - corpus.csi[users:]).max() > 0.1 * np.abs(corpus.csi).max()
    first, turned = (np.linalg.norm(half, axis=(1, 2)) for half in np.split(corpus.csi, 2))
    assert np.corrcoef(np.log(first), np.log(turned))[0, 1] > 0.9


def test_users_that_no_path_reaches_are_counted_not_kept(table: PathTable, small_recipe: Recipe, tmp_path) -> None:
    per_path = ("gain", "delay", "departure", "arrival", "interactions")
    silent = dataclasses.replace(
        table, offsets=np.zeros_like(table.offsets), **{name: getattr(table, name)[:0] for name in per_path}
    )
    silent.save(tmp_path / "silent")
    empty = load_cell(tmp_path / "silent", small_recipe.radio)
    assert len(empty.positions) == 0
    assert empty.unreached == len(table.users)


def test_a_cell_not_traced_yet_is_named(small_recipe: Recipe) -> None:
    with pytest.raises(FileNotFoundError, match="munich-0042"):
        load_cells(["munich:42"], DATA, small_recipe.radio)


def test_the_data_digest_follows_the_bytes(table: PathTable, tmp_path: Path) -> None:
    name = "etoile-0900.paths.safetensors"
    (tmp_path / name).write_bytes((DATA / name).read_bytes())
    assert data_digest(["etoile:900"], tmp_path) == data_digest(["etoile:900"], DATA)
    dataclasses.replace(table, delay=table.delay * 2).save(tmp_path / name)
    assert data_digest(["etoile:900"], tmp_path) != data_digest(["etoile:900"], DATA)
