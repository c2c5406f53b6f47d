from typing import get_args

import pytest
import torch

from models.layers.soft_moe import Routing, route
from models.scadf_moe.routing_diversity import DiversityKind, mmd, paired_distance, routing_overlap

KINDS: tuple[DiversityKind, ...] = get_args(DiversityKind)


def routing(generator: torch.Generator, spread: float) -> Routing:
    """Of three tasks, on 16 samples with 10 tokens: their routers ``spread`` apart around a common one."""
    x = torch.randn((16, 10, 8), generator=generator)
    common = torch.randn((8, 4), generator=generator)
    routers = common + spread * torch.randn((3, 8, 4), generator=generator)
    return route(torch.einsum("btd,mds->bmts", x, routers) / 8**0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_term_is_zero_for_equal_routers_and_falls_as_they_differ(kind: DiversityKind) -> None:
    terms = [
        float(routing_overlap(routing(torch.Generator().manual_seed(5), spread), kind)) for spread in (0, 0.3, 1, 3)
    ]
    assert terms[0] == pytest.approx(0, abs=1e-5)
    assert terms[0] > terms[1] > terms[2] > terms[3] > -4


@pytest.mark.parametrize("kind", KINDS)
def test_the_term_moves_routers_apart(kind: DiversityKind) -> None:
    generator = torch.Generator().manual_seed(6)
    x = torch.randn((16, 10, 8), generator=generator)
    routers = torch.nn.Parameter(0.3 * torch.randn((3, 8, 4), generator=generator))
    before = None
    for _ in range(30):
        term = routing_overlap(route(torch.einsum("btd,mds->bmts", x, routers)), kind)
        before = float(term.detach()) if before is None else before
        term.backward()
        with torch.no_grad():
            routers -= routers.grad
            routers.grad = None
    assert float(term.detach()) < 1.5 * before < 0


def test_only_the_written_term_pays_more_for_routing_that_no_sample_changes() -> None:
    """Two tasks whose matrices are equally far apart on every sample, and follow the sample or do not."""
    tasks = torch.randn((2, 6, 5), generator=torch.Generator().manual_seed(8)).softmax(-1)
    constant = tasks.expand(5, 2, 6, 5)
    following = torch.stack([tasks.roll(sample, dims=2) for sample in range(5)])
    torch.testing.assert_close(paired_distance(following), paired_distance(constant))
    torch.testing.assert_close(mmd(constant), paired_distance(constant), rtol=0, atol=1e-5)
    assert float(mmd(following)[0, 1]) < 0.5 * float(mmd(constant)[0, 1])


def test_only_the_paired_term_tells_tasks_apart_that_exchange_their_matrices() -> None:
    """The tasks differ on every sample, but both have the same matrices over all samples."""
    one, other = torch.randn((2, 6, 5), generator=torch.Generator().manual_seed(9)).softmax(-1)
    matrices = torch.stack([torch.stack([one, other]), torch.stack([other, one])])  # [samples, tasks, rows, columns]
    assert float(mmd(matrices)[0, 1]) == pytest.approx(0, abs=1e-5)
    assert float(paired_distance(matrices)[0, 1]) > 0.1


def test_the_paired_distance_is_the_mean_of_the_mmd_of_each_sample() -> None:
    matrices = torch.rand((9, 3, 4, 5), generator=torch.Generator().manual_seed(7)).softmax(-1)
    alone = torch.stack([mmd(sample[None]) for sample in matrices]).mean(0)
    torch.testing.assert_close(paired_distance(matrices), alone, rtol=0, atol=1e-5)


def test_mmd_is_symmetric_never_negative_and_independent_of_the_order_of_samples() -> None:
    matrices = torch.rand((9, 3, 4, 5), generator=torch.Generator().manual_seed(7)).softmax(-1)
    pairs = mmd(matrices)
    torch.testing.assert_close(pairs, pairs.T)
    assert pairs.diagonal().abs().max() < 1e-6
    assert pairs.min() > -1e-6
    torch.testing.assert_close(mmd(matrices.flip(0)), pairs)


def test_mmd_tells_the_same_distributions_in_other_slots_apart() -> None:
    matrix = torch.eye(4).expand(9, 1, 4, 4)
    assert float(mmd(torch.cat([matrix, matrix.roll(1, dims=2)], dim=1))[0, 1]) > 1.9
