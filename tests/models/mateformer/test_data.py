import math
from pathlib import Path

import numpy as np
import pytest
import torch

from models.mateformer.data import Corpus, build_corpus, draw_coarse_positions, draw_neighbourhoods
from models.mateformer.recipe import Batch, Fixes, MateformerRecipe
from models.radio.path_table import PathTable
from reference_db.index.position import PositionIndex

DATA = Path(__file__).parents[1] / "data"
BATCH = Batch(neighbourhoods=20, known=(8, 16), to_infer=5, coarse_sigma=(0.3, 3.0), spread=(1.0, 2.0), stray=0.0)
POSITIONS = torch.randn((40, 50, 2), generator=torch.Generator().manual_seed(1)) * 30


def test_a_corpus_holds_every_yaw_of_every_cell_with_an_index_each(
    mateformer_recipe: MateformerRecipe, table: PathTable
) -> None:
    corpus = build_corpus(["etoile:900"], DATA, mateformer_recipe.radio, seed=1)
    users = int(table.reached.sum())
    assert [len(index) for index in corpus.indices] == [users] * mateformer_recipe.radio.yaws
    assert corpus.csi.shape == (users * mateformer_recipe.radio.yaws, 8, 8)
    np.testing.assert_array_equal(corpus.positions[:users], corpus.positions[users:])
    # Another yaw is another array response to the same paths: other phases, not another city.
    assert np.abs(corpus.csi[:users] - corpus.csi[users:]).max() > 0.1 * np.abs(corpus.csi).max()
    first, turned = (np.linalg.norm(half, axis=(1, 2)) for half in np.split(corpus.csi, 2))
    assert np.corrcoef(np.log(first), np.log(turned))[0, 1] > 0.9


@pytest.fixture
def corpus() -> Corpus:
    """Two cells a kilometre apart, 400 users each on 40 m squares."""
    rng = np.random.default_rng(0)
    cells = [
        rng.uniform(0, 40, (400, 2)).astype(np.float32),
        rng.uniform(1000, 1040, (400, 2)).astype(np.float32),
    ]
    return Corpus(
        csi=np.zeros((800, 1, 1), np.complex64),
        positions=np.concatenate(cells),
        first=np.array([0, 400]),
        indices=[PositionIndex(cell) for cell in cells],
    )


def test_no_user_is_both_known_and_to_be_inferred(corpus: Corpus) -> None:
    for seed in range(20):
        known, to_infer = draw_neighbourhoods(corpus, BATCH, np.random.default_rng(seed))
        assert BATCH.known[0] <= known.shape[1] <= BATCH.known[1]
        assert to_infer.shape == (20, 5)
        for row in np.concatenate([known, to_infer], axis=1):
            assert len(set(row)) == len(row)


def test_a_neighbourhood_stays_in_one_cell_and_is_compact(corpus: Corpus) -> None:
    known, to_infer = draw_neighbourhoods(corpus, BATCH, np.random.default_rng(3))
    rows = np.concatenate([known, to_infer], axis=1)
    assert ((rows < 400).all(axis=1) | (rows >= 400).all(axis=1)).all()
    assert np.ptp(corpus.positions[rows], axis=1).max() < 30


def test_unspread_neighbourhoods_are_the_nearest_users(corpus: Corpus) -> None:
    unspread = BATCH.model_copy(update={"spread": (1.0, 1.0)})
    known, to_infer = draw_neighbourhoods(corpus, unspread, np.random.default_rng(5))
    rows = np.concatenate([known, to_infer], axis=1)
    inside = [np.linalg.norm(corpus.positions[row] - corpus.positions[row].mean(0), axis=1).max() for row in rows]
    spread_rows = np.concatenate(
        draw_neighbourhoods(corpus, BATCH.model_copy(update={"spread": (2.0, 2.0)}), np.random.default_rng(5)), axis=1
    )
    wider = [np.linalg.norm(corpus.positions[r] - corpus.positions[r].mean(0), axis=1).max() for r in spread_rows]
    assert np.mean(wider) > 1.2 * np.mean(inside)


def test_the_same_generator_draws_the_same_batch(corpus: Corpus) -> None:
    once, again = (draw_neighbourhoods(corpus, BATCH, np.random.default_rng(9)) for _ in range(2))
    np.testing.assert_array_equal(once[0], again[0])
    np.testing.assert_array_equal(once[1], again[1])


def test_strays_stand_at_the_rim_of_their_references(corpus: Corpus) -> None:
    def centre_to_rim(stray: float) -> float:
        batch = BATCH.model_copy(update={"stray": stray, "spread": (1.0, 1.0)})
        known, users = draw_neighbourhoods(corpus, batch, np.random.default_rng(4))
        centres = corpus.positions[known].mean(1, keepdims=True)
        return float(np.linalg.norm(corpus.positions[users] - centres, axis=-1).mean())

    assert centre_to_rim(1.0) > 1.3 * centre_to_rim(0.0)


def test_a_coarse_position_is_off_by_its_stated_accuracy() -> None:
    fixes = Fixes(known=0.7, accuracy=(0.5, 20.0))
    coarse, accuracy = draw_coarse_positions(POSITIONS, fixes, torch.Generator().manual_seed(2))
    known = accuracy.isfinite()
    assert float(known.float().mean()) == pytest.approx(0.7, abs=0.03)
    assert accuracy[known].min() >= 0.5
    assert accuracy[known].max() <= 20.0
    assert float(accuracy[known].log().mean()) == pytest.approx(math.log(10) / 2, abs=0.1)
    sigmas = (coarse - POSITIONS)[known] / accuracy[known][:, None]
    assert float(sigmas.std()) == pytest.approx(1.0, abs=0.05)


def test_a_user_without_a_coarse_position_has_the_origin_and_an_infinite_error() -> None:
    coarse, accuracy = draw_coarse_positions(
        POSITIONS, Fixes(known=0.5, accuracy=(1.0, 2.0)), torch.Generator().manual_seed(3)
    )
    assert (coarse[accuracy.isinf()] == 0).all()
    nowhere, infinite = draw_coarse_positions(POSITIONS, None, torch.Generator())
    assert (nowhere == 0).all()
    assert infinite.isinf().all()
