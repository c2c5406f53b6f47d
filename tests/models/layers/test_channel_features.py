import math

import pytest
import torch
from torch import Tensor

from models.layers.channel_features import (
    MAGNITUDE_EXPONENT,
    POWER_NORMALISATION_EXPONENT,
    RELATIVE_DELAY_SCALE,
    ChannelFeatures,
    Reference,
)


@pytest.fixture
def snapshots() -> tuple[Tensor, Tensor]:
    """csi_known [2, 12, 8, 6, 2], csi [2, 5, 8, 6, 2]"""
    generator = torch.Generator().manual_seed(4)
    return torch.randn((2, 12, 8, 6, 2), generator=generator), torch.randn((2, 5, 8, 6, 2), generator=generator)


@pytest.mark.parametrize("compensated", [False, True], ids=["as measured", "delay-compensated"])
def test_the_angle_delay_spectrum_is_the_two_dimensional_dft(snapshots, compensated: bool) -> None:
    _, csi = snapshots
    H = torch.view_as_complex(csi)
    if compensated:
        lag = (H[..., 1:] * H[..., :-1].conj()).sum((-2, -1))
        H = H * (lag / lag.abs())[..., None, None].conj() ** torch.arange(6)
        H = H / H.abs().square().mean((-2, -1), keepdim=True).sqrt()
        window = torch.hamming_window(8, periodic=False)[:, None] * torch.hamming_window(6, periodic=False)
        spectrum = torch.fft.fft2(H * window / window.norm()).abs() ** 0.5
        features = ChannelFeatures(8, 6, raw=False, angle_delay=0.0, delay_compensated=True)
        numbers = 2
    else:
        H = H / H.abs().square().mean((-2, -1), keepdim=True) ** POWER_NORMALISATION_EXPONENT
        spectrum = (torch.fft.fft2(H, s=(16, 12)).abs() / (8 * 6) ** 0.5) ** MAGNITUDE_EXPONENT
        features = ChannelFeatures(8, 6, raw=False, angle_delay=2.0, delay_compensated=False)
        numbers = 0
    ours = features(csi, Reference(torch.ones(2), torch.zeros(2)))
    expected = torch.fft.fftshift(spectrum, dim=(-2, -1)).flatten(2)
    torch.testing.assert_close(ours[..., : ours.shape[-1] - numbers], expected, rtol=2e-3, atol=5e-3)


def test_the_delay_compensated_spectrum_ignores_phase_sto_and_gain_of_a_snapshot(snapshots) -> None:
    features = ChannelFeatures(8, 6, raw=False, angle_delay=0.0, delay_compensated=True)
    known, csi = snapshots
    reference = features.reference(known)
    phase, sto, gain = (torch.rand((2, 5), generator=torch.Generator().manual_seed(i)) for i in range(3))
    ramp = torch.polar(0.2 + gain, 6 * phase)[..., None] * torch.polar(
        torch.ones(6), 0.4 * sto[..., None] * torch.arange(6)
    )
    distorted = torch.view_as_real(torch.view_as_complex(csi) * ramp[:, :, None])
    before, after = features(csi, reference), features(distorted, reference)
    torch.testing.assert_close(after[..., :-2], before[..., :-2], rtol=1e-4, atol=1e-4)
    louder, later = (after - before)[..., -2:].unbind(-1)
    torch.testing.assert_close(louder, (0.2 + gain).log(), rtol=1e-4, atol=1e-4)
    turn = 2 * math.pi / RELATIVE_DELAY_SCALE
    wrapped = (later + turn / 2) % turn - turn / 2
    torch.testing.assert_close(wrapped, 0.4 * sto / RELATIVE_DELAY_SCALE, rtol=1e-3, atol=1e-3)
