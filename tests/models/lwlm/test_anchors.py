import math
from itertools import product

import pytest
import torch
from torch import Tensor

from models.lwlm.anchors import NUMBERS, find_anchors
from models.lwlm.network import normalise
from reference_db.path_features import SPEED_OF_LIGHT

HEIGHT = 12.0  # metres


def make_channel(
    ranges: Tensor,
    angles: Tensor,
    gains: Tensor,
    antennas: int,
    subcarriers: int,
    bandwidth: float,
    height: float = HEIGHT,
) -> Tensor:
    """Snapshots [b, a, s, 2] of paths [b, p] of these lengths in metres and azimuths off broadside in radians."""
    cone = angles.double().sin() * (1 - (height / ranges.double()).square()).sqrt()
    over_antennas = torch.exp(1j * math.pi * cone[..., None] * torch.arange(antennas))  # [b, p, a]
    turns = ranges.double()[..., None] / SPEED_OF_LIGHT * bandwidth / subcarriers
    over_subcarriers = torch.exp(-2j * math.pi * turns * (torch.arange(subcarriers) - subcarriers // 2))
    H = torch.einsum("bp,bpa,bps->bas", gains.to(torch.complex128), over_antennas, over_subcarriers)
    return normalise(torch.view_as_real(H).float())


def find(csi: Tensor, bandwidth: float, height: float = HEIGHT) -> tuple[Tensor, Tensor, Tensor]:
    b = len(csi)
    anchors = find_anchors(csi, torch.full((b,), height), torch.full((b,), SPEED_OF_LIGHT / bandwidth))
    assert anchors.features.shape == (b, NUMBERS)
    return anchors.range, anchors.aoa, anchors.position


CONFIGURATIONS = list(product([8, 16, 32], [32, 64, 128], [10e6, 20e6, 50e6]))  # the shipped recipe's
RANGES = torch.tensor([20.0, 37.3, 61.0, 90.4, 123.0])
DEGREES = torch.tensor([-86.0, -52.0, 0.3, 20.7, 70.0, 86.0])


@pytest.mark.parametrize(("antennas", "subcarriers", "bandwidth"), CONFIGURATIONS)
def test_the_range_and_angle_of_a_level_path_are_exact_up_to_the_rim(
    antennas: int, subcarriers: int, bandwidth: float
) -> None:
    r, phi = (one.flatten()[:, None] for one in torch.meshgrid(RANGES, DEGREES.deg2rad(), indexing="ij"))
    csi = make_channel(r, phi, torch.ones_like(r), antennas, subcarriers, bandwidth, height=0.0)
    found_range, found_angle, position = find(csi, bandwidth, height=0.0)
    torch.testing.assert_close(found_range, r[:, 0], atol=max(0.05, 0.0035 * SPEED_OF_LIGHT / bandwidth), rtol=0)
    torch.testing.assert_close(found_angle.rad2deg(), phi[:, 0].rad2deg(), atol=0.1, rtol=0)
    expected = r * torch.cat([phi.cos(), phi.sin()], dim=-1)
    torch.testing.assert_close(position, expected, atol=0.3, rtol=0)


@pytest.mark.parametrize("bandwidth", [10e6, 50e6])
def test_a_path_from_above_has_the_azimuth_of_its_cone(bandwidth: float) -> None:
    r, phi = (one.flatten()[:, None] for one in torch.meshgrid(RANGES, DEGREES.deg2rad(), indexing="ij"))
    found_range, found_angle, position = find(make_channel(r, phi, torch.ones_like(r), 16, 64, bandwidth), bandwidth)
    torch.testing.assert_close(found_range, r[:, 0], atol=0.0035 * SPEED_OF_LIGHT / bandwidth, rtol=0)
    # The elevation comes from the range: 0.1 m at 20 m change the sine of the azimuth by 0.0022.
    torch.testing.assert_close(found_angle.sin(), phi[:, 0].sin(), atol=2.5e-3, rtol=0)
    ground = (r.square() - HEIGHT**2).sqrt()
    inner = phi[:, 0].abs() < 1.3
    expected = ground * torch.cat([phi.cos(), phi.sin()], dim=-1)
    torch.testing.assert_close(position[inner], expected[inner], atol=0.5, rtol=0)


@pytest.mark.parametrize(("below_db", "bins"), [(3, 1.6), (10, 1.8), (17, 2.0), (3, 5), (10, 5), (17, 5)])
@pytest.mark.parametrize("bandwidth", [10e6, 50e6])
def test_a_weak_first_path_is_found_before_a_stronger_echo(below_db: float, bins: float, bandwidth: float) -> None:
    r = torch.tensor([[40.0, 40 + bins * SPEED_OF_LIGHT / bandwidth]]).expand(8, 2)
    phi = torch.tensor([[0.3, -0.5]]).expand(8, 2)
    phases = torch.arange(8) * math.pi / 4  # of the echo
    gains = torch.stack([torch.full((8,), 10 ** (-below_db / 20)).to(torch.complex64), torch.exp(1j * phases)], dim=1)
    found, angle, _ = find(make_channel(r, phi, gains, 16, 64, bandwidth), bandwidth)
    assert ((found - 40).abs() * bandwidth / SPEED_OF_LIGHT < 0.01).all(), found
    assert ((angle - 0.3).abs().rad2deg() < 0.1).all(), angle


def test_a_path_below_the_threshold_is_not_taken_for_the_first() -> None:
    csi = make_channel(
        torch.tensor([[40.0, 80.0]]), torch.tensor([[0.3, -0.5]]), torch.tensor([[10 ** (-26 / 20), 1.0]]), 16, 64, 50e6
    )
    found, angle, _ = find(csi, 50e6)
    assert found == pytest.approx(80, abs=0.5)
    assert angle == pytest.approx(-0.5, abs=0.02)


def test_gain_and_phase_do_not_move_the_anchors(generator: torch.Generator) -> None:
    csi = make_channel(torch.full((1, 1), 50.0), torch.full((1, 1), 0.4), torch.ones(1, 1), 8, 64, 20e6)
    H = torch.view_as_complex(csi) * 1j**0.7
    for one, other in zip(find(csi, 20e6), find(normalise(1e-4 * torch.view_as_real(H)), 20e6), strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", ["noise", "zero", "constant", "one antenna", "one subcarrier"])
@pytest.mark.parametrize(("antennas", "subcarriers"), [(8, 32), (32, 128)])
def test_senseless_snapshots_give_finite_anchors_and_gradients(
    kind: str, antennas: int, subcarriers: int, generator: torch.Generator
) -> None:
    csi = torch.zeros(3, antennas, subcarriers, 2)
    if kind == "noise":
        csi = torch.randn(csi.shape, generator=generator)
    elif kind == "constant":
        csi[..., 0] = 1
    elif kind == "one antenna":
        csi[:, 2] = 1
    elif kind == "one subcarrier":
        csi[:, :, 3] = 1
    csi.requires_grad_()
    height, bin_m = torch.tensor([0.0, 12.0, 400.0]), torch.tensor([6.0, 15.0, 30.0])
    anchors = find_anchors(normalise(csi), height, bin_m)
    assert all(one.isfinite().all() for one in anchors)
    assert (anchors.range >= 1).all()
    sum(one.sum() for one in anchors).backward()
    assert csi.grad is not None
    assert csi.grad.isfinite().all()
