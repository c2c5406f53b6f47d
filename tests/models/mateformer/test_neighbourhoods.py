import numpy as np
import pytest

from models.mateformer.data import Corpus
from models.mateformer.neighbourhoods import draw
from models.pipeline.recipe import Batch
from reference_db.index.position import PositionIndex

BATCH = Batch(neighbourhoods=20, known=(8, 16), to_infer=5, coarse_sigma=(0.3, 3.0), spread=(1.0, 2.0), stray=0.0)


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


def test_nobody_is_both_known_and_to_be_inferred(corpus: Corpus) -> None:
    for seed in range(20):
        known, to_infer = draw(corpus, BATCH, np.random.default_rng(seed))
        assert BATCH.known[0] <= known.shape[1] <= BATCH.known[1]
        assert to_infer.shape == (20, 5)
        for row in np.concatenate([known, to_infer], axis=1):
            assert len(set(row)) == len(row)


def test_a_neighbourhood_stays_in_one_cell_and_close_together(corpus: Corpus) -> None:
    known, to_infer = draw(corpus, BATCH, np.random.default_rng(3))
    rows = np.concatenate([known, to_infer], axis=1)
    assert ((rows < 400).all(axis=1) | (rows >= 400).all(axis=1)).all()
    assert np.ptp(corpus.positions[rows], axis=1).max() < 30


def test_unspread_neighbourhoods_are_the_nearest_users(corpus: Corpus) -> None:
    unspread = BATCH.model_copy(update={"spread": (1.0, 1.0)})
    known, to_infer = draw(corpus, unspread, np.random.default_rng(5))
    rows = np.concatenate([known, to_infer], axis=1)
    inside = [np.linalg.norm(corpus.positions[row] - corpus.positions[row].mean(0), axis=1).max() for row in rows]
    spread_rows = np.concatenate(
        draw(corpus, BATCH.model_copy(update={"spread": (2.0, 2.0)}), np.random.default_rng(5)), axis=1
    )
    wider = [np.linalg.norm(corpus.positions[r] - corpus.positions[r].mean(0), axis=1).max() for r in spread_rows]
    assert np.mean(wider) > 1.2 * np.mean(inside)


def test_the_same_generator_draws_the_same_batch(corpus: Corpus) -> None:
    once, again = (draw(corpus, BATCH, np.random.default_rng(9)) for _ in range(2))
    np.testing.assert_array_equal(once[0], again[0])
    np.testing.assert_array_equal(once[1], again[1])


def test_strays_stand_at_the_rim_of_their_references(corpus: Corpus) -> None:
    def centre_to_rim(stray: float) -> float:
        batch = BATCH.model_copy(update={"stray": stray, "spread": (1.0, 1.0)})
        known, users = draw(corpus, batch, np.random.default_rng(4))
        centres = corpus.positions[known].mean(1, keepdims=True)
        return float(np.linalg.norm(corpus.positions[users] - centres, axis=-1).mean())

    assert centre_to_rim(1.0) > 1.3 * centre_to_rim(0.0)
