import math

import pytest
import torch
from torch import Tensor, nn

from models.mateformer.network import Coarse, Mateformer, MateformerConfig, log_likelihood

SMALL = {"antennas": 8, "subcarriers": 6, "width": 32, "depth": 3, "hidden": 48, "heads": 4}


@pytest.fixture(
    params=[
        {},
        {"raw": False, "angle_delay": 1.5},
        {"raw": False, "angle_delay": 1.5, "delay_compensated": True, "coarse": True},
    ],
    ids=["as in the paper", "angle-delay", "delay-compensated, with coarse positions"],
)
def model(request: pytest.FixtureRequest) -> Mateformer:
    torch.manual_seed(3)
    return trained(Mateformer(MateformerConfig(**SMALL, **request.param)).eval())


def trained(model: Mateformer) -> Mateformer:
    """Gives the coarse positions an effect, which they do not have at the start."""
    for name, parameter in model.named_parameters():
        if "belief" in name or "coarse" in name:
            nn.init.normal_(parameter, mean=0.5, std=0.2)
    return model


@pytest.fixture
def scene() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """csi_known [2, 12, 8, 6, 2], positions_known [2, 12, 2], csi [2, 5, 8, 6, 2], coarse [2, 5, 2], accuracy [2, 5]

    The last user has no coarse position.
    """
    generator = torch.Generator().manual_seed(4)
    shapes = (2, 12, 8, 6, 2), (2, 12, 2), (2, 5, 8, 6, 2), (2, 5, 2)
    known, positions, csi, coarse = (torch.randn(shape, generator=generator) for shape in shapes)
    middle = torch.tensor([40.0, -25.0])
    accuracy = torch.tensor([0.5, 1.0, 2.0, 5.0, math.inf]).expand(2, 5)
    return known, 3 * positions + middle, csi, 2 * coarse + middle, accuracy


@pytest.fixture(autouse=True)
def no_gradients() -> None:
    torch.set_grad_enabled(False)
    yield
    torch.set_grad_enabled(True)


def test_a_user_to_infer_does_not_influence_others(model, scene) -> None:
    known, positions, csi, coarse, accuracy = scene
    before = model(known, positions, csi, coarse, accuracy)
    disturbed = csi.clone()
    disturbed[:, 2] = 7 * torch.randn_like(disturbed[:, 2])
    after = model(known, positions, disturbed, coarse, accuracy)
    others = [0, 1, 3, 4]
    torch.testing.assert_close(after[:, others], before[:, others], rtol=0, atol=1e-6)
    assert (after[:, 2] - before[:, 2]).norm(dim=-1).min() > 1e-3


def test_every_known_sample_influences_the_answer(model, scene) -> None:
    known, positions, csi, coarse, accuracy = scene
    before = model(known, positions, csi, coarse, accuracy)
    for sample in range(known.shape[1]):
        moved = positions.clone()
        moved[:, sample] += 1.0
        rephased = known.clone()
        rephased[:, sample] = rephased[:, sample].flip(1)
        assert (model(known, moved, csi, coarse, accuracy) - before).abs().max() > 1e-3
        assert (model(rephased, positions, csi, coarse, accuracy) - before).abs().max() > 1e-5


def test_permuting_the_neighbourhood_changes_nothing(model, scene) -> None:
    known, positions, csi, coarse, accuracy = scene
    order = torch.randperm(known.shape[1], generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        model(known[:, order], positions[:, order], csi, coarse, accuracy),
        model(known, positions, csi, coarse, accuracy),
        rtol=0,
        atol=2e-5,
    )


def test_shifting_all_positions_shifts_the_answer(model, scene) -> None:
    known, positions, csi, coarse, accuracy = scene
    shift = torch.tensor([300.0, -120.0])
    torch.testing.assert_close(
        model(known, positions + shift, csi, coarse + shift, accuracy),
        model(known, positions, csi, coarse, accuracy) + shift,
        rtol=0,
        atol=3e-4,
    )


@pytest.mark.parametrize("gain", [1e-6, 3e-3, 50.0])
def test_one_gain_on_all_csi_changes_nothing(model, scene, gain: float) -> None:
    known, positions, csi, coarse, accuracy = scene
    torch.testing.assert_close(
        model(gain * known, positions, gain * csi, coarse, accuracy),
        model(known, positions, csi, coarse, accuracy),
        rtol=0,
        atol=2e-5,
    )


def test_frame_and_query_equal_the_single_pass(model, scene) -> None:
    known, positions, csi, coarse, accuracy = scene
    two_halves = model.query(csi, Coarse(coarse, accuracy), model.frame(known, positions))
    torch.testing.assert_close(two_halves, model(known, positions, csi, coarse, accuracy), rtol=0, atol=1e-5)


def test_a_frame_has_keys_and_values_of_both_attentions_in_every_layer(model, scene) -> None:
    known, positions, *_ = scene
    frame = model.frame(known, positions)
    assert len(frame.keys_values) == SMALL["depth"]
    for K, V in frame.keys_values:
        assert K.shape == V.shape == (2, 2 * SMALL["heads"], 12, 8)
    torch.testing.assert_close(frame.centre, positions.mean(1))


def test_only_users_with_a_coarse_position_are_moved_by_it(scene) -> None:
    torch.manual_seed(3)
    model = trained(Mateformer(MateformerConfig(**SMALL, coarse=True)).eval())
    known, positions, csi, coarse, accuracy = scene
    moved = model(known, positions, csi, coarse + 3.0, accuracy) - model(known, positions, csi, coarse, accuracy)
    assert moved[:, :-1].norm(dim=-1).min() > 1e-3
    assert moved[:, -1].abs().max() == 0
    nobody = torch.full_like(accuracy, math.inf)
    frame = model.frame(known, positions)
    torch.testing.assert_close(
        model.query(csi, Coarse(torch.zeros_like(coarse), nobody), frame)[:, -1],
        model.query(csi, Coarse(coarse, accuracy), frame)[:, -1],
        rtol=0,
        atol=0,
    )


def test_the_prior_is_the_likelihood_of_each_known_position(scene) -> None:
    _, positions, _, coarse, accuracy = scene
    prior = log_likelihood(Coarse(coarse, accuracy), positions)
    for user, sample in ((0, 0), (1, 3), (2, 7)):
        off = float((coarse[0, user] - positions[0, sample]).norm())
        expected = max(-(off**2) / 2 / (1 + float(accuracy[0, user]) ** 2), -8)
        assert float(prior[0, user, sample]) == pytest.approx(expected, rel=1e-4)
    assert prior[:, -1].abs().max() == 0


def test_the_paper_sized_model_has_the_papers_shape() -> None:
    model = Mateformer(MateformerConfig())
    assert (len(model.layers), model.config.width, model.config.hidden, model.config.heads) == (
        8,
        256,
        256,
        4,
    )
    assert model.embed_H.in_features == 2 * 32 * 32
    assert model.output[-1].out_features == 2


def test_a_common_phase_of_each_snapshot_changes_nothing_without_raw_csi(scene) -> None:
    torch.manual_seed(3)
    model = Mateformer(MateformerConfig(**SMALL, raw=False, angle_delay=1.5, delay_compensated=True)).eval()
    known, positions, csi, coarse, accuracy = scene
    turned = torch.view_as_real(
        torch.view_as_complex(csi) * torch.polar(torch.ones(5), torch.arange(5.0))[:, None, None]
    )
    torch.testing.assert_close(
        model(known, positions, turned, coarse, accuracy),
        model(known, positions, csi, coarse, accuracy),
        rtol=0,
        atol=1e-4,
    )


def test_an_sto_common_to_all_snapshots_does_not_change_the_delay_compensated_spectrum(scene) -> None:
    torch.manual_seed(3)
    model = Mateformer(MateformerConfig(**SMALL, raw=False, delay_compensated=True)).eval()
    known, positions, csi, coarse, accuracy = scene
    ramp = torch.polar(torch.ones(6), 1.3 * torch.arange(6))
    late = [torch.view_as_real(torch.view_as_complex(H) * ramp) for H in (known, csi)]
    torch.testing.assert_close(
        model(late[0], positions, late[1], coarse, accuracy),
        model(known, positions, csi, coarse, accuracy),
        rtol=0,
        atol=1e-4,
    )
