import math

import numpy as np
import pytest
import torch
from torch import Tensor

from models.lwlm.network import LwlmConfig, normalise, split_patches
from models.lwlm.objectives import (
    TEMPERATURE,
    MaskToken,
    contrastive_loss,
    delay_angle,
    draw_mask,
    dti_loss,
    masked_channel_loss,
)
from models.lwlm.pretraining import Pretraining
from models.lwlm.recipe import LwlmRecipe

A, S = 8, 16


@pytest.fixture
def config(lwlm_recipe: LwlmRecipe) -> LwlmConfig:
    return lwlm_recipe.config()


@pytest.fixture
def model(config: LwlmConfig) -> Pretraining:
    torch.manual_seed(0)
    return Pretraining(config)


@pytest.fixture
def csi(generator: torch.Generator) -> Tensor:
    return normalise(torch.randn((4, A, S, 2), generator=generator))


@pytest.fixture
def configuration(generator: torch.Generator) -> Tensor:
    return torch.randn((4, 4), generator=generator)


def one_path(cone: float, delay: float) -> Tensor:
    """A path with this direction along the array and this delay in bins, [1, a, s, 2]."""
    over_antennas = torch.exp(1j * math.pi * cone * torch.arange(A))
    over_subcarriers = torch.exp(-2j * math.pi * delay * (torch.arange(S) - S // 2) / S)
    return torch.view_as_real(over_antennas[:, None] * over_subcarriers)[None]


@pytest.mark.parametrize(("angle_bin", "delay_bin"), [(0, 0), (3, 5), (-4, 15), (-1, 7)])
def test_a_path_at_a_bin_has_all_its_energy_there_in_the_delay_angle_tensor(angle_bin: int, delay_bin: int) -> None:
    tensor = torch.view_as_complex(delay_angle(one_path(2 * angle_bin / A, delay_bin)))[0]
    energy = tensor.abs().square()
    assert energy[A // 2 + angle_bin, delay_bin] == pytest.approx(A * S, rel=1e-4)
    assert energy.sum() == pytest.approx(A * S, rel=1e-4)


def test_the_delay_angle_tensor_is_the_double_sum_over_antennas_and_subcarriers(csi: Tensor) -> None:
    H = torch.view_as_complex(csi).numpy().astype(np.complex128)
    expected = np.zeros_like(H)
    for u in range(A):
        for d in range(S):
            for m in range(A):
                for k in range(S):
                    turn = np.exp(2j * np.pi * (k * d / S - m * (u - A // 2) / A))
                    expected[:, u, d] += H[:, m, k] * turn / math.sqrt(A * S)
    np.testing.assert_allclose(torch.view_as_complex(delay_angle(csi)).numpy(), expected, atol=1e-5)


def test_dti_asks_for_the_delay_angle_tensor_and_for_nothing_else(csi: Tensor, config: LwlmConfig) -> None:
    target = split_patches(delay_angle(csi), config)
    norm = math.sqrt(A * S)
    floor = 1 - norm**2 / (norm**2 + 0.1)  # of the cosine's stabiliser
    assert dti_loss(target, csi, config) == pytest.approx(floor, abs=1e-5)
    assert dti_loss(split_patches(csi, config), csi, config) > 0.5
    assert dti_loss(target.roll(1, dims=0), csi, config) > 0.5


def test_dti_is_blind_to_a_common_phase_and_to_no_other(csi: Tensor, config: LwlmConfig) -> None:
    tensor = torch.view_as_complex(delay_angle(csi))

    def loss(turned: Tensor) -> float:
        return float(dti_loss(split_patches(torch.view_as_real(turned), config), csi, config))

    phases = torch.exp(1j * torch.tensor([0.4, 1.9, -2.0, 3.0]))[:, None, None]
    assert loss(tensor * phases) == pytest.approx(loss(tensor), abs=1e-5)
    assert loss(tensor * torch.exp(1j * torch.arange(S) * 0.5)) > loss(tensor) + 0.1
    assert loss(tensor.conj().resolve_conj()) > loss(tensor) + 0.1


@pytest.mark.parametrize(("antennas", "subcarriers"), [(8, 16), (32, 128)])
def test_half_of_the_antennas_and_half_of_the_subcarriers_are_masked(
    antennas: int, subcarriers: int, generator: torch.Generator
) -> None:
    masked_antennas, masked_subcarriers = draw_mask(50, antennas, subcarriers, generator)
    assert (masked_antennas.sum(1) == antennas // 2).all()
    assert (masked_subcarriers.sum(1) == subcarriers // 2).all()
    assert len(masked_antennas.unique(dim=0)) > 25  # every snapshot has a mask of its own
    assert (masked_antennas.float().mean(0) - 0.5).abs().max() < 0.3  # and every antenna its turn


@pytest.mark.parametrize("which", ["antennas", "subcarriers"])
def test_masked_entries_carry_no_input(which: str, model: Pretraining, csi: Tensor, generator: torch.Generator) -> None:
    with torch.no_grad():  # as after some training
        model.mask.antenna.fill_(0.3)
        model.mask.subcarrier.fill_(-0.2)
    antennas, subcarriers = draw_mask(4, A, S, generator)
    chosen = antennas[:, :, None] if which == "antennas" else subcarriers[:, None]
    seen = ~antennas[:, :, None] & ~subcarriers[:, None]
    noise = torch.randn(csi.shape, generator=generator)

    def encode(changed: Tensor) -> Tensor:
        return model.encoder(model.mask(csi + noise * changed[..., None], antennas, subcarriers)).tokens

    with torch.inference_mode():
        unchanged = encode(torch.zeros(4, A, S))
        assert torch.equal(encode(chosen.expand(4, A, S)), unchanged)
        assert (encode(seen) - unchanged).abs().amax((1, 2)).min() > 1e-3


def test_masked_antennas_and_masked_subcarriers_have_values_of_their_own(generator: torch.Generator) -> None:
    mask = MaskToken()
    with torch.no_grad():
        mask.antenna.copy_(torch.tensor([7.0, 8.0]))
        mask.subcarrier.copy_(torch.tensor([5.0, 6.0]))
    antennas, subcarriers = draw_mask(1, A, S, generator)
    masked = mask(torch.zeros(1, A, S, 2), antennas, subcarriers)[0]
    for m in range(A):
        for k in range(S):
            expected = [7.0, 8.0] if antennas[0, m] else [5.0, 6.0] if subcarriers[0, k] else [0.0, 0.0]
            assert masked[m, k].tolist() == expected


def test_the_channel_is_restored_everywhere_and_not_only_where_it_was_masked(csi: Tensor, config: LwlmConfig) -> None:
    patches = split_patches(csi, config)
    assert masked_channel_loss(patches, csi, config) == 0
    assert masked_channel_loss(patches + 0.5, csi, config) == pytest.approx(0.25)
    wrong = patches.clone()
    wrong[2, 1, 3] += 2.0
    assert masked_channel_loss(wrong, csi, config) == pytest.approx(4 / patches.numel())


def test_the_positives_of_a_batch_of_two_are_where_they_must_be() -> None:
    one = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    other = torch.tensor([[0.8, 0.6], [0.0, 1.0]])
    z = {"a1": one[0], "a2": one[1], "b1": other[0], "b2": other[1]}

    def term(anchor: str, positive: str) -> float:
        def e(name: str) -> float:
            return math.exp(float(z[anchor] @ z[name]) / TEMPERATURE)

        return -math.log(e(positive) / sum(e(name) for name in z if name != anchor))

    by_hand = (term("a1", "b1") + term("a2", "b2") + term("b1", "a1") + term("b2", "a2")) / 4
    assert contrastive_loss(one, other) == pytest.approx(by_hand, rel=1e-5)
    mistaken = (term("a1", "b2") + term("a2", "b1") + term("b1", "a2") + term("b2", "a1")) / 4
    assert abs(mistaken - by_hand) > 0.1


def test_the_contrast_is_symmetric_and_falls_as_positives_agree(generator: torch.Generator) -> None:
    one, other = (torch.nn.functional.normalize(torch.randn((5, 8), generator=generator)) for _ in range(2))
    assert contrastive_loss(one, other) == pytest.approx(float(contrastive_loss(other, one)), rel=1e-5)
    assert contrastive_loss(one, one) < contrastive_loss(one, other) < contrastive_loss(one, -one)
    assert contrastive_loss(one, one.roll(1, dims=0)) > contrastive_loss(one, one)


@pytest.mark.parametrize("objective", ["dti", "sf_mcm", "picl"])
def test_each_loss_reaches_only_its_slice_of_the_embedding(
    objective: str, model: Pretraining, config: LwlmConfig, csi: Tensor, configuration: Tensor
) -> None:
    tokens = model.encoder(csi).tokens.detach().requires_grad_()
    parts = dict(zip(("dti", "sf_mcm", "picl"), model.split(tokens), strict=True))
    loss_of(objective, model, parts[objective], csi, configuration).backward()
    assert tokens.grad is not None
    reached = tokens.grad.abs().sum((0, 1)) > 0
    starts = dict(zip(parts, np.cumsum([0, *config.slices]), strict=False))
    expected = torch.zeros(config.width, dtype=torch.bool)
    expected[starts[objective] : starts[objective] + parts[objective].shape[-1]] = True
    assert reached.tolist() == expected.tolist()


def loss_of(objective: str, model: Pretraining, part: Tensor, csi: Tensor, configuration: Tensor) -> Tensor:
    if objective == "dti":
        return dti_loss(model.delay_angle(part, configuration, A, S), csi, model.config)
    if objective == "sf_mcm":
        return masked_channel_loss(model.channel(part, configuration, A, S), csi, model.config)
    z = model.projector(part, configuration)
    return contrastive_loss(z, z.detach().flip(0))


def test_projections_are_unit_vectors(model: Pretraining, csi: Tensor, configuration: Tensor) -> None:
    _, _, picl = model.split(model.encoder(csi).tokens)
    torch.testing.assert_close(model.projector(picl, configuration).norm(dim=-1), torch.ones(4))
