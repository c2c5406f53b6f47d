import pytest
import torch

from models.lwlm.network import LwlmConfig, LwlmEncoder, normalise, patch_positions, split_patches
from models.lwlm.recipe import LwlmRecipe


@pytest.fixture
def config(lwlm_recipe: LwlmRecipe) -> LwlmConfig:
    return lwlm_recipe.config()


def test_a_patch_is_a_block_of_antennas_and_subcarriers_and_antenna_blocks_are_outermost(config: LwlmConfig) -> None:
    a, s = 8, 24
    csi = torch.stack(torch.meshgrid(torch.arange(a), torch.arange(s), indexing="ij"), dim=-1)[None]
    patches = split_patches(csi, config)
    assert patches.shape == (1, 6, config.patch)
    for token, patch in enumerate(patches[0]):
        row, column = divmod(token, 3)
        entries = [(4 * row + i, 8 * column + k) for i in range(4) for k in range(8)]
        assert patch.unflatten(0, (-1, 2)).tolist() == [list(entry) for entry in entries]


def test_every_patch_has_a_position_of_its_own(config: LwlmConfig) -> None:
    positions = patch_positions(16, 64, config)
    assert positions.shape == (4 * 8, config.width)
    apart = torch.cdist(positions, positions) + torch.eye(len(positions)) * 9
    assert apart.min() > 0.1


def test_the_position_of_a_patch_does_not_depend_on_the_size_of_the_channel(config: LwlmConfig) -> None:
    large = patch_positions(16, 64, config).unflatten(0, (4, 8))
    torch.testing.assert_close(patch_positions(8, 16, config).unflatten(0, (2, 2)), large[:2, :2])


def test_patches_that_swap_places_are_another_channel(config: LwlmConfig, generator: torch.Generator) -> None:
    torch.manual_seed(0)
    encoder = LwlmEncoder(config).eval()
    csi = torch.randn((1, 8, 16, 2), generator=generator)
    swapped = csi.roll(4, dims=1)
    with torch.inference_mode():
        assert (encoder(csi).summary - encoder(swapped).summary).abs().max() > 1e-3


@pytest.mark.parametrize(("antennas", "subcarriers"), [(4, 8), (8, 32), (32, 128)])
def test_one_encoder_takes_any_number_of_whole_patches(config: LwlmConfig, antennas: int, subcarriers: int) -> None:
    encoded = LwlmEncoder(config)(torch.randn(3, antennas, subcarriers, 2))
    assert encoded.summary.shape == (3, config.width)
    assert encoded.tokens.shape == (3, antennas * subcarriers // 32, config.width)


def test_snapshots_of_a_batch_do_not_see_each_other(config: LwlmConfig, generator: torch.Generator) -> None:
    encoder = LwlmEncoder(config).eval()
    csi = torch.randn((3, 8, 16, 2), generator=generator)
    with torch.inference_mode():
        torch.testing.assert_close(encoder(csi).tokens[1:2], encoder(csi[1:2]).tokens)


def test_slices_that_do_not_fill_the_embedding_are_refused(lwlm_recipe: LwlmRecipe) -> None:
    model = {**lwlm_recipe.model, "slices": (6, 6, 6)}
    with pytest.raises(ValueError, match="width 16"):
        lwlm_recipe.model_copy(update={"model": model}).config()


@pytest.mark.parametrize("gain", [1e-6, 1.0, 3e4])
def test_gain_and_common_phase_leave_no_trace(gain: float, generator: torch.Generator) -> None:
    H = torch.randn((4, 8, 16), generator=generator, dtype=torch.complex64)
    turned = gain * torch.exp(1j * torch.tensor([0.3, 2.0, -3.1, 1.5]))[:, None, None] * H
    one, other = (normalise(torch.view_as_real(channel)) for channel in (H, turned))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.view_as_complex(one).abs().square().mean((1, 2)), torch.ones(4))


def test_normalising_changes_nothing_else(generator: torch.Generator) -> None:
    H = torch.randn((2, 8, 16), generator=generator, dtype=torch.complex64)
    ratio = torch.view_as_complex(normalise(torch.view_as_real(H))) / H
    torch.testing.assert_close(ratio, ratio[:, :1, :1].expand_as(H), rtol=1e-4, atol=1e-5)
    centre = torch.view_as_complex(normalise(torch.view_as_real(H)))[:, 2:6, 4:12].sum((1, 2))
    torch.testing.assert_close(centre.angle(), torch.zeros(2), atol=1e-5, rtol=0)


def test_an_empty_channel_stays_finite() -> None:
    assert normalise(torch.zeros(1, 8, 16, 2)).isfinite().all()
