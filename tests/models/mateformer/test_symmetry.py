import math

import pytest
import torch
from torch import Tensor

from models.mateformer.recipe import Symmetry
from models.mateformer.symmetry import transform

NONE = Symmetry(rotate=False, mirror=False, ramps=False, reverse=0.0, conjugate=0.0)


@pytest.fixture
def neighbourhoods() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    csi = torch.randn(6, 10, 8, 4, 2, generator=generator)
    return torch.view_as_complex(csi), 5 * torch.randn(6, 10, 2, generator=generator)


def apply(neighbourhoods, seed: int = 1, **changes) -> tuple[Tensor, Tensor]:
    return transform(*neighbourhoods, NONE.model_copy(update=changes), torch.Generator().manual_seed(seed))


def test_no_symmetry_is_the_identity(neighbourhoods) -> None:
    csi, positions = apply(neighbourhoods)
    assert torch.equal(csi, neighbourhoods[0])
    assert torch.equal(positions, neighbourhoods[1])


def test_rotation_and_mirror_keep_every_distance(neighbourhoods) -> None:
    csi, positions = apply(neighbourhoods, rotate=True, mirror=True)
    torch.testing.assert_close(
        torch.cdist(positions, positions),
        torch.cdist(neighbourhoods[1], neighbourhoods[1]),
        rtol=1e-4,
        atol=1e-4,
    )
    assert torch.equal(csi, neighbourhoods[0])


def test_mirror_reverses_the_sense_of_turning_in_about_half_of_the_neighbourhoods(neighbourhoods) -> None:
    def orientation(positions: Tensor) -> Tensor:
        a, b = positions[:, 1] - positions[:, 0], positions[:, 2] - positions[:, 0]
        return (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sign()

    flipped = torch.stack(
        [
            orientation(apply(neighbourhoods, seed, rotate=True, mirror=True)[1]) != orientation(neighbourhoods[1])
            for seed in range(60)
        ]
    )
    assert 0.4 < flipped.float().mean() < 0.6


def test_a_ramp_is_one_phase_step_per_antenna_and_subcarrier_for_the_whole_neighbourhood(
    neighbourhoods,
) -> None:
    csi, positions = apply(neighbourhoods, ramps=True)
    ratio = csi / neighbourhoods[0]  # [b, t, a, s]
    torch.testing.assert_close(ratio.abs(), torch.ones_like(ratio.abs()), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-3, atol=1e-3)
    for axis in (2, 3):
        size = ratio.shape[axis]
        step = ratio.narrow(axis, 1, size - 1) / ratio.narrow(axis, 0, size - 1)
        first = step.narrow(axis, 0, 1).expand_as(step)
        torch.testing.assert_close(step, first, rtol=1e-3, atol=1e-3)
    assert torch.equal(positions, neighbourhoods[1])


def test_reversal_flips_the_antennas_and_conjugation_the_phases(neighbourhoods) -> None:
    assert torch.equal(apply(neighbourhoods, reverse=1.0)[0], neighbourhoods[0].flip(2))
    assert torch.equal(apply(neighbourhoods, conjugate=1.0)[0].resolve_conj(), neighbourhoods[0].conj().resolve_conj())


def test_the_same_generator_seed_repeats_the_same_symmetry(neighbourhoods) -> None:
    everything = {"rotate": True, "mirror": True, "ramps": True, "reverse": 0.5, "conjugate": 0.5}
    once, again = apply(neighbourhoods, 5, **everything), apply(neighbourhoods, 5, **everything)
    other = apply(neighbourhoods, 6, **everything)
    assert torch.equal(once[0], again[0])
    assert torch.equal(once[1], again[1])
    assert not torch.equal(once[1], other[1])


def test_rotation_keeps_the_mean_position_at_the_centre(neighbourhoods) -> None:
    _, positions = apply(neighbourhoods, rotate=True)
    assert positions.mean(1).abs().max() < 1e-4
    radius = (neighbourhoods[1] - neighbourhoods[1].mean(1, keepdim=True)).norm(dim=-1)
    torch.testing.assert_close(positions.norm(dim=-1), radius, rtol=1e-4, atol=1e-4)
    assert math.isfinite(float(positions.sum()))
