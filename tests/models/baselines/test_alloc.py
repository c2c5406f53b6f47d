"""The paper's Mateformer: who sees whom."""

import torch

from models.baselines.alloc import AllocMateformer

P, Q, F = 6, 3, 20


def make_model() -> AllocMateformer:
    torch.manual_seed(3)
    return AllocMateformer(F, width=16, depth=3, hidden=16, heads=2).eval()


def draw() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    shapes = (2, P, F), (2, P, 2), (2, Q, F)
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)  # type: ignore[return-value]


def test_a_user_is_located_alike_alone_and_beside_others() -> None:
    model, (H_known, x_known, H) = make_model(), draw()
    together = model(H_known, x_known, H)
    alone = torch.cat([model(H_known, x_known, H[:, i : i + 1]) for i in range(Q)], dim=1)
    assert torch.allclose(together, alone, atol=1e-5)


def test_the_order_of_the_known_samples_does_not_matter() -> None:
    model, (H_known, x_known, H) = make_model(), draw()
    order = torch.randperm(P, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(model(H_known, x_known, H), model(H_known[:, order], x_known[:, order], H), atol=1e-5)


def test_the_channel_reaches_the_position_only_by_comparison() -> None:
    """With one known sample there is nothing to compare: every channel is at the same place."""
    model, (H_known, x_known, H) = make_model(), draw()
    found = model(H_known[:, :1], x_known[:, :1], H)
    assert torch.allclose(found, found[:, :1].expand(-1, Q, -1), atol=1e-5)


def test_it_learns_to_find_the_known_sample_with_the_same_channel() -> None:
    model = make_model().train()
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(5)

    def step() -> torch.Tensor:
        H_known, x_known = torch.randn(32, P, F, generator=generator), torch.randn(32, P, 2, generator=generator)
        return (model(H_known, x_known, H_known) - x_known).square().mean()

    for _ in range(400):
        optimiser.zero_grad()
        loss = step()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.5  # the mean of the known positions has an error of 1 - 1/P
