import math

import numpy as np
import pytest
import torch
from torch import Tensor

from models.radio.channel import subcarrier_offsets
from models.radio.impairments import Impairments, impair, impair_each

BANDWIDTH = 40e6


@pytest.fixture
def csi() -> Tensor:
    """complex64 [200, 8, 16], the snapshots' powers far apart"""
    generator = torch.Generator().manual_seed(1)
    loudness = 10 ** torch.linspace(-5, 1, 200)[:, None, None]
    return loudness * torch.randn((200, 8, 16), dtype=torch.complex64, generator=generator)


def seen(csi: Tensor, impairments: Impairments, seed: int = 2) -> Tensor:
    return impair(csi, impairments, BANDWIDTH, torch.Generator().manual_seed(seed))


def test_a_perfect_radio_reports_the_channel(csi: Tensor) -> None:
    torch.testing.assert_close(seen(csi, Impairments()), csi, rtol=1e-6, atol=0)


def test_the_same_seed_gives_the_same_report(csi: Tensor) -> None:
    poor = Impairments(snr_db=10, phase=True, timing_s=2e-8, gain_db=3, dead_antennas=2, bits=6)
    assert torch.equal(seen(csi, poor), seen(csi, poor))
    assert not torch.equal(seen(csi, poor), seen(csi, poor, seed=3))


@pytest.mark.parametrize("snr_db", [0.0, 20.0])
def test_the_noise_power_is_the_snapshots_power_over_the_snr(csi: Tensor, snr_db: float) -> None:
    noise = seen(csi, Impairments(snr_db=snr_db)) - csi
    ratio_db = 10 * torch.log10(csi.abs().square().mean((1, 2)) / noise.abs().square().mean((1, 2)))
    assert ratio_db.mean() == pytest.approx(snr_db, abs=0.3)
    assert ratio_db.std() < 1.0


def test_a_timing_offset_is_a_phase_ramp_over_the_subcarriers(csi: Tensor) -> None:
    ratio = (seen(csi, Impairments(timing_s=20e-9)) / csi).numpy()
    per_hertz = 2 * np.pi * np.diff(subcarrier_offsets(16, BANDWIDTH))[0]
    offsets = -np.angle(ratio[:, :, 1:] / ratio[:, :, :-1]) / per_hertz  # [200, 8, 15] seconds
    np.testing.assert_allclose(offsets, np.broadcast_to(offsets[:, :1, :1], offsets.shape), atol=1e-12)
    assert 18e-9 < np.abs(offsets).max() <= 20e-9 + 1e-12
    assert offsets[:, 0, 0].std() == pytest.approx(20e-9 / math.sqrt(3), rel=0.15)
    np.testing.assert_allclose(np.abs(ratio), 1, rtol=1e-4)


def test_a_random_phase_is_common_to_the_whole_snapshot(csi: Tensor) -> None:
    ratio = seen(csi, Impairments(phase=True)) / csi
    torch.testing.assert_close(ratio, ratio[:, :1, :1].expand_as(ratio), rtol=1e-4, atol=1e-5)
    assert ratio[:, 0, 0].mean().abs() < 0.2


def test_gain_is_normal_in_decibels(csi: Tensor) -> None:
    gain_db = 20 * torch.log10((seen(csi, Impairments(gain_db=3)) / csi).abs())
    torch.testing.assert_close(gain_db, gain_db[:, :1, :1].expand_as(gain_db), rtol=1e-3, atol=1e-3)
    assert gain_db[:, 0, 0].std() == pytest.approx(3, rel=0.15)


def test_dead_antennas_are_silent_in_every_snapshot_even_with_noise(csi: Tensor) -> None:
    silent = (seen(csi, Impairments(dead_antennas=3, snr_db=10)) == 0).all(dim=2)
    assert silent.sum(dim=1).eq(3).all()
    assert (silent == silent[0]).all()


def test_quantised_parts_take_few_values_and_stay_within_half_a_step(csi: Tensor) -> None:
    parts = torch.view_as_real(csi)
    coarse = torch.view_as_real(seen(csi, Impairments(bits=4)))
    step = parts.abs().amax((1, 2, 3)) / 7
    assert ((coarse - parts).abs().amax((1, 2, 3)) <= 0.5001 * step).all()
    for snapshot in coarse[::40]:
        assert len(snapshot.unique()) <= 15


def test_zero_csi_stays_zero() -> None:
    poor = Impairments(snr_db=10, phase=True, timing_s=2e-8, gain_db=3, dead_antennas=1, bits=8)
    assert seen(torch.zeros((3, 4, 6), dtype=torch.complex64), poor).eq(0).all()


def test_each_array_has_its_own_radio(csi: Tensor) -> None:
    both = impair_each(
        torch.stack([csi, csi]), [Impairments(), Impairments(snr_db=10)], BANDWIDTH, torch.Generator().manual_seed(2)
    )
    torch.testing.assert_close(both[0], csi, rtol=1e-5, atol=0)
    assert (both[1] - csi).abs().square().mean() > 0.05 * csi.abs().square().mean()


def test_a_milder_radio_is_never_worse() -> None:
    worst = Impairments(snr_db=10, phase=True, timing_s=2e-8, gain_db=3, dead_antennas=2, bits=8)
    drawn = [worst.draw_milder(np.random.default_rng(seed)) for seed in range(200)]
    for one in drawn:
        assert one.snr_db is not None
        assert 10 <= one.snr_db <= 70
        assert one.timing_s <= 2e-8
        assert one.gain_db <= 3
        assert one.dead_antennas <= 2
        assert one.bits in (None, 8)
    assert {one.dead_antennas for one in drawn} == {0, 1, 2}
    assert min(one.snr_db for one in drawn) < 15
    assert Impairments().draw_milder(np.random.default_rng(0)) == Impairments()
