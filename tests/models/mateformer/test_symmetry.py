import pytest
import torch
from torch import Tensor

from models.mateformer.recipe import Symmetry
from models.mateformer.symmetry import LARGEST_DELAY_SHIFT, transform_csi, transform_positions

NONE = Symmetry(rotate=False, mirror=False, ramps=False, reverse=0.0)


@pytest.fixture
def positions() -> Tensor:
    return 5 * torch.randn(6, 10, 2, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def csi() -> Tensor:
    """A neighbourhood, [t, lines, columns, subcarriers]."""
    return torch.view_as_complex(torch.randn(10, 2, 8, 4, 2, generator=torch.Generator().manual_seed(0)))


def move(positions: Tensor, seed: int = 1, **changes: bool) -> Tensor:
    return transform_positions(positions, NONE.model_copy(update=changes), torch.Generator().manual_seed(seed))


def alter(csi: Tensor, seed: int = 1, **changes: float) -> Tensor:
    return transform_csi(csi, NONE.model_copy(update=changes), torch.Generator().manual_seed(seed))


def test_no_symmetry_is_the_identity(csi: Tensor, positions: Tensor) -> None:
    assert torch.equal(alter(csi), csi)
    assert torch.equal(move(positions), positions)


def test_rotation_and_mirror_keep_every_distance(positions: Tensor) -> None:
    moved = move(positions, rotate=True, mirror=True)
    torch.testing.assert_close(torch.cdist(moved, moved), torch.cdist(positions, positions), rtol=1e-4, atol=1e-4)
    assert (moved - positions).abs().max() > 1


def test_mirror_reverses_the_sense_of_turning_in_about_half_of_the_neighbourhoods(positions: Tensor) -> None:
    def orientation(positions: Tensor) -> Tensor:
        a, b = positions[:, 1] - positions[:, 0], positions[:, 2] - positions[:, 0]
        return (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sign()

    flipped = torch.stack(
        [orientation(move(positions, seed, rotate=True, mirror=True)) != orientation(positions) for seed in range(60)]
    )
    assert 0.4 < flipped.float().mean() < 0.6


def test_rotation_keeps_the_mean_position_at_the_centre(positions: Tensor) -> None:
    moved = move(positions, rotate=True)
    assert moved.mean(1).abs().max() < 1e-4
    radius = (positions - positions.mean(1, keepdim=True)).norm(dim=-1)
    torch.testing.assert_close(moved.norm(dim=-1), radius, rtol=1e-4, atol=1e-4)


def test_ramps_are_one_phase_step_per_line_column_and_subcarrier_for_the_whole_neighbourhood(csi: Tensor) -> None:
    ratio = alter(csi, ramps=True) / csi  # [t, l, c, s]
    torch.testing.assert_close(ratio.abs(), torch.ones_like(ratio.abs()), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-3, atol=1e-3)
    for axis in (1, 2, 3):
        size = ratio.shape[axis]
        step = ratio.narrow(axis, 1, size - 1) / ratio.narrow(axis, 0, size - 1)
        first = step.narrow(axis, 0, 1).expand_as(step)
        torch.testing.assert_close(step, first, rtol=1e-3, atol=1e-3)
        assert (step - 1).abs().max() > 1e-2


def test_a_ramp_over_the_band_shifts_delays_by_a_few_resolutions_at_most(csi: Tensor) -> None:
    one = csi[:, :1, :1].repeat(1, 1, 1, 16)  # 64 subcarriers
    turns = [(alter(one, seed, ramps=True) / one)[0, 0, 0].diff().abs().max() for seed in range(50)]
    largest = 2 * torch.sin(torch.tensor(torch.pi * LARGEST_DELAY_SHIFT / 64))  # the chord of the step's angle
    assert max(turns) <= largest * 1.001
    assert max(turns) > 0.8 * largest


def test_reversal_flips_the_columns(csi: Tensor) -> None:
    assert torch.equal(alter(csi, reverse=1.0), csi.flip(2))
    flipped = [torch.equal(alter(csi, seed, reverse=0.5), csi.flip(2)) for seed in range(60)]
    assert 15 < sum(flipped) < 45


def test_the_same_generator_seed_repeats_the_same_symmetry(csi: Tensor, positions: Tensor) -> None:
    assert torch.equal(move(positions, 5, rotate=True, mirror=True), move(positions, 5, rotate=True, mirror=True))
    assert not torch.equal(move(positions, 5, rotate=True), move(positions, 6, rotate=True))
    assert torch.equal(alter(csi, 5, ramps=True, reverse=0.5), alter(csi, 5, ramps=True, reverse=0.5))
    assert not torch.equal(alter(csi, 5, ramps=True), alter(csi, 6, ramps=True))
