import torch

from models.layers.soft_moe import Experts, SoftMoEBlock, route


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


def test_the_first_residual_of_the_experts_grows_with_the_residual_init() -> None:
    slots, outputs = torch.randn((2, 6, 4), generator=torch.Generator().manual_seed(5)), []
    for scale in (0.1, 1.0):
        torch.manual_seed(6)
        outputs.append(Experts(experts=3, width=4, hidden=6, residual_init=scale)(slots))
    torch.testing.assert_close(10 * outputs[0], outputs[1])
