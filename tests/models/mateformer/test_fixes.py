import math

import pytest
import torch

from models.mateformer.fixes import coarse_positions
from models.pipeline.recipe import Fixes

POSITIONS = torch.randn((40, 50, 2), generator=torch.Generator().manual_seed(1)) * 30


def test_a_coarse_position_is_off_by_its_stated_accuracy() -> None:
    fixes = Fixes(known=0.7, accuracy=(0.5, 20.0))
    coarse, accuracy = coarse_positions(POSITIONS, fixes, torch.Generator().manual_seed(2))
    known = accuracy.isfinite()
    assert float(known.float().mean()) == pytest.approx(0.7, abs=0.03)
    assert accuracy[known].min() >= 0.5
    assert accuracy[known].max() <= 20.0
    assert float(accuracy[known].log().mean()) == pytest.approx(math.log(10) / 2, abs=0.1)
    sigmas = (coarse - POSITIONS)[known] / accuracy[known][:, None]
    assert float(sigmas.std()) == pytest.approx(1.0, abs=0.05)


def test_whoever_has_none_stands_at_the_origin_with_an_infinite_error() -> None:
    coarse, accuracy = coarse_positions(
        POSITIONS, Fixes(known=0.5, accuracy=(1.0, 2.0)), torch.Generator().manual_seed(3)
    )
    assert (coarse[accuracy.isinf()] == 0).all()
    nowhere, infinite = coarse_positions(POSITIONS, None, torch.Generator())
    assert (nowhere == 0).all()
    assert infinite.isinf().all()
