import pytest
import torch

from models.layers.soft_moe import Routing, route
from models.scadf_moe.learner import mmd, routing_overlap


def routing(generator: torch.Generator, spread: float) -> Routing:
    """Of three tasks, on 16 samples with 10 tokens: their routers ``spread`` apart around a common one."""
    x = torch.randn((16, 10, 8), generator=generator)
    common = torch.randn((8, 4), generator=generator)
    routers = common + spread * torch.randn((3, 8, 4), generator=generator)
    return route(torch.einsum("btd,mds->bmts", x, routers) / 8**0.5)


def test_the_term_is_zero_for_equal_routers_and_falls_as_they_differ() -> None:
    terms = [float(routing_overlap(routing(torch.Generator().manual_seed(5), spread))) for spread in (0, 0.3, 1, 3)]
    assert terms[0] == pytest.approx(0, abs=1e-5)
    assert terms[0] > terms[1] > terms[2] > terms[3] > -4


def test_the_term_moves_routers_apart() -> None:
    generator = torch.Generator().manual_seed(6)
    x = torch.randn((16, 10, 8), generator=generator)
    routers = torch.nn.Parameter(0.3 * torch.randn((3, 8, 4), generator=generator))
    before = None
    for _ in range(30):
        term = routing_overlap(route(torch.einsum("btd,mds->bmts", x, routers)))
        before = float(term.detach()) if before is None else before
        term.backward()
        with torch.no_grad():
            routers -= routers.grad
            routers.grad = None
    assert float(term.detach()) < 1.5 * before < 0


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
