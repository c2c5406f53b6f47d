import pytest
import torch

from models.layers.soft_moe import Experts, Routing, SoftMoEBlock, route
from models.scadf_moe.routing_diversity import mmd, routing_overlap


def test_dispatch_sums_to_one_over_tokens_and_combine_over_slots() -> None:
    D, C = route(3 * torch.randn((2, 7, 5), generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(D.sum(1), torch.ones(2, 5))
    torch.testing.assert_close(C.sum(2), torch.ones(2, 7))


def test_a_block_equals_a_loop_over_slots_and_tokens() -> None:
    torch.manual_seed(2)
    block = SoftMoEBlock(tokens=7, width=8, heads=2, experts=3, slots=2, hidden=12, static=False)
    X = torch.randn(1, 7, 8)
    attended = block.attention(X)[0]
    x = block.norm(attended)
    logits = x @ block.router.Phi[0]  # [t, s]
    experts, outputs = block.experts, []
    for slot in range(6):
        heard = sum(w * token for w, token in zip(logits[:, slot].softmax(0), x, strict=True))
        e = slot // 2
        inside = torch.nn.functional.gelu(heard @ experts.W_in[e] + experts.b_in[e, 0])
        outputs.append(inside @ experts.W_out[e] + experts.b_out[e, 0])
    expected = [
        token + sum(w * out for w, out in zip(row.softmax(0), outputs, strict=True))
        for token, row in zip(attended, logits, strict=True)
    ]
    torch.testing.assert_close(block(X)[0], torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_permuting_the_tokens_permutes_the_answer() -> None:
    torch.manual_seed(3)
    block = SoftMoEBlock(tokens=7, width=8, heads=2, experts=3, slots=2, hidden=12, static=False)
    X, order = torch.randn(2, 7, 8), torch.randperm(7)
    torch.testing.assert_close(block(X[:, order]), block(X)[:, order], rtol=1e-4, atol=1e-5)


def test_each_expert_works_on_its_own_slots_only() -> None:
    torch.manual_seed(4)
    experts, slots = Experts(experts=3, width=4, hidden=6), torch.randn(2, 6, 4)
    before, other = experts(slots), slots.clone()
    other[:, 2:4] += 1.0
    changed = (experts(other) != before).any(-1).any(0)
    assert changed.tolist() == [False, False, True, True, False, False]


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


def test_the_term_leads_routers_apart() -> None:
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


def test_mmd_is_symmetric_never_negative_and_blind_to_the_order_of_samples() -> None:
    matrices = torch.rand((9, 3, 4, 5), generator=torch.Generator().manual_seed(7)).softmax(-1)
    pairs = mmd(matrices)
    torch.testing.assert_close(pairs, pairs.T)
    assert pairs.diagonal().abs().max() < 1e-6
    assert pairs.min() > -1e-6
    torch.testing.assert_close(mmd(matrices.flip(0)), pairs)


def test_mmd_tells_the_same_distributions_in_other_slots_apart() -> None:
    matrix = torch.eye(4).expand(9, 1, 4, 4)
    assert float(mmd(torch.cat([matrix, matrix.roll(1, dims=2)], dim=1))[0, 1]) > 1.9
