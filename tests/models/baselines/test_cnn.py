import math

import pytest
import torch
from torch import Tensor

from models.baselines.cnn import CsiCnn


def draw_single_paths(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """CSI [n, 8, 32, 2] of one path each, and its phase steps [n, 2] over antennas and subcarriers in [-1, 1]."""
    steps = 2 * torch.rand((n, 2), generator=generator) - 1
    phase = 2 * math.pi * torch.rand((n, 1, 1), generator=generator)
    antennas = math.pi * steps[:, 0, None, None] * torch.arange(8)[:, None]
    subcarriers = math.pi * (steps[:, 1, None, None] + 1) / 4 * torch.arange(32)
    return torch.view_as_real(torch.polar(torch.full((n, 8, 32), 0.5**0.5), phase + antennas - subcarriers)), steps


@pytest.mark.parametrize("antennas", [8, 16, 32])
@pytest.mark.parametrize("subcarriers", [32, 64, 128])
def test_every_array_and_band_has_features_of_one_width(antennas: int, subcarriers: int) -> None:
    generator = torch.Generator().manual_seed(0)
    features = CsiCnn(24)(torch.randn((3, antennas, subcarriers, 2), generator=generator))
    assert features.shape == (3, 24)
    assert features.std(dim=0).min() > 0


def test_it_is_as_large_as_the_small_transformer() -> None:
    assert 0.5e6 < sum(parameter.numel() for parameter in CsiCnn(128).parameters()) < 0.8e6


def test_snapshots_of_a_batch_do_not_influence_each_other() -> None:
    model = CsiCnn(8)
    csi = torch.randn((4, 8, 32, 2), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(csi)[1:2], model(csi[1:2]), atol=1e-5, rtol=1e-5)


def test_it_learns_the_angle_and_the_delay_of_single_paths() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    model = CsiCnn(2)
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(120):
        csi, steps = draw_single_paths(32, generator)
        loss = (model(csi) - steps).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    csi, steps = draw_single_paths(200, generator)
    with torch.no_grad():
        error = (model(csi) - steps).abs().mean(dim=0)
    assert (error < 0.25).all()  # a constant has 0.5
