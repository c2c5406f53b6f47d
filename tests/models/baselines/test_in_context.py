"""ICLLoc: causal, and the last sample always at the last place."""

import torch

from models.baselines.in_context import InContextTransformer

P, F = 5, 12


def make_model(samples: int = P) -> InContextTransformer:
    torch.manual_seed(2)
    return InContextTransformer(F, samples, width=16, depth=2, hidden=32, heads=2).eval()


def draw(samples: int = P) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(6)
    return torch.randn(2, samples + 1, F, generator=generator), torch.randn(2, samples, 2, generator=generator)


def test_a_sample_does_not_see_its_own_position_nor_later_ones() -> None:
    model, (H, x) = make_model(), draw()
    later = x.clone()
    later[:, 2:] += 5.0
    before, after = model(H, x), model(H, later)
    assert torch.allclose(before[:, :3], after[:, :3], atol=1e-5)
    assert not torch.allclose(before[:, 3:], after[:, 3:], atol=1e-3)


def test_fewer_samples_use_the_last_places() -> None:
    model, (H, x) = make_model(samples=9), draw()
    short = make_model(samples=P)
    weights = model.state_dict()
    weights["places"] = weights["places"][-(2 * P + 1) :]
    short.load_state_dict(weights)
    assert torch.allclose(model(H, x), short(H, x), atol=1e-5)
