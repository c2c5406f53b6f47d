"""The data-to-label rivals' inputs, and that they can fit positions."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.baselines.mfcnet import MfcNet, carrier_sequence
from models.baselines.position_cnn import PositionCnn, angle_delay_planes, csi_planes

A, S = 8, 16


def one_path(direction: int, delay: int) -> Tensor:
    """CSI [1, a, s] of one path at whole bins of direction and delay."""
    antennas, subcarriers = np.arange(A)[:, None], np.arange(S)
    phase = 2 * np.pi * (direction * antennas / A - delay * subcarriers / S)
    return torch.from_numpy(np.exp(1j * phase).astype(np.complex64))[None]


def test_a_path_is_one_peak_of_its_direction_and_delay() -> None:
    planes = angle_delay_planes(one_path(direction=3, delay=5))
    assert planes.shape == (1, 1, A, S)
    assert divmod(int(planes[0, 0].argmax()), S) == (3, 5)
    assert float(planes.square().sum()) == pytest.approx(A * S, rel=1e-4)  # unitary: no power is lost


def test_real_and_imaginary_parts_are_the_planes_of_a_cnn() -> None:
    csi = one_path(1, 2)
    planes = csi_planes(csi)
    assert torch.equal(torch.complex(planes[:, 0], planes[:, 1]), csi)


def test_a_subcarrier_is_one_step_of_the_sequence() -> None:
    csi = one_path(1, 2)
    steps = carrier_sequence(csi)
    assert steps.shape == (1, S, 2 * A)
    assert torch.equal(steps[0, 3], torch.view_as_real(csi[0, :, 3]).flatten())


@pytest.mark.parametrize("model", ["cnn", "ad-cnn", "mfcnet"])
def test_each_learns_where_paths_of_few_directions_and_delays_come_from(model: str) -> None:
    torch.manual_seed(1)
    places = [(direction, delay) for direction in range(0, A, 2) for delay in range(0, S, 4)]
    csi = torch.cat([one_path(*place) for place in places])
    truth = torch.tensor(places, dtype=torch.float32)
    truth = (truth - truth.mean(0)) / truth.std(0)
    nets: dict[str, tuple[nn.Module, Tensor]] = {
        "cnn": (PositionCnn(2, A, S), csi_planes(csi)),
        "ad-cnn": (PositionCnn(1, A, S), angle_delay_planes(csi)),
        "mfcnet": (MfcNet(A, width=32), carrier_sequence(csi)),
    }
    net, inputs = nets[model]
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(300):
        optimiser.zero_grad()
        loss = (net(inputs) - truth).square().mean()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.05


def test_heads_share_all_but_the_last_map() -> None:
    net = PositionCnn(1, A, S, labels=2).eval()
    planes = angle_delay_planes(one_path(3, 5))
    first = net(planes, 0)
    with torch.no_grad():
        net.heads[1].weight.zero_()
        net.heads[1].bias.fill_(7.0)
    assert torch.equal(net(planes, 1), torch.full((1, 2), 7.0))
    assert torch.equal(net(planes, 0), first)
